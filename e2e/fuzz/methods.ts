/** Every method of the public socket. */
import { Containers } from '@gantry/api/containerd/services/containers/v1/containers_pb'
import { Content } from '@gantry/api/containerd/services/content/v1/content_pb'
import { Diff } from '@gantry/api/containerd/services/diff/v1/diff_pb'
import { Events } from '@gantry/api/containerd/services/events/v1/events_pb'
import { Images } from '@gantry/api/containerd/services/images/v1/images_pb'
import { Introspection } from '@gantry/api/containerd/services/introspection/v1/introspection_pb'
import { Leases } from '@gantry/api/containerd/services/leases/v1/leases_pb'
import { Mounts } from '@gantry/api/containerd/services/mounts/v1/mounts_pb'
import { Namespaces } from '@gantry/api/containerd/services/namespaces/v1/namespace_pb'
import { Controller, Store } from '@gantry/api/containerd/services/sandbox/v1/sandbox_pb'
import { Snapshots } from '@gantry/api/containerd/services/snapshots/v1/snapshots_pb'
import { Streaming } from '@gantry/api/containerd/services/streaming/v1/streaming_pb'
import { Tasks } from '@gantry/api/containerd/services/tasks/v1/tasks_pb'
import { Transfer } from '@gantry/api/containerd/services/transfer/v1/transfer_pb'
import { Version } from '@gantry/api/containerd/services/version/v1/version_pb'
import { Audit } from '@gantry/api/gantry/audit/v1/audit_pb'

const SERVICES = [
  ...[Containers, Content, Diff, Events, Images, Introspection, Leases, Mounts],
  ...[Namespaces, Controller, Store, Snapshots, Streaming, Tasks, Transfer, Version, Audit],
]

export const METHODS = SERVICES.flatMap(({ methods }) => methods)
