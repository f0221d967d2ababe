import { Containers } from '@gantry/api/containerd/services/containers/v1/containers_pb'
import { Content } from '@gantry/api/containerd/services/content/v1/content_pb'
import { Diff } from '@gantry/api/containerd/services/diff/v1/diff_pb'
import { Events } from '@gantry/api/containerd/services/events/v1/events_pb'
import { Images } from '@gantry/api/containerd/services/images/v1/images_pb'
import { Introspection } from '@gantry/api/containerd/services/introspection/v1/introspection_pb'
import { Leases } from '@gantry/api/containerd/services/leases/v1/leases_pb'
import { Namespaces } from '@gantry/api/containerd/services/namespaces/v1/namespace_pb'
import { Snapshots } from '@gantry/api/containerd/services/snapshots/v1/snapshots_pb'
import { Streaming } from '@gantry/api/containerd/services/streaming/v1/streaming_pb'
import { Tasks } from '@gantry/api/containerd/services/tasks/v1/tasks_pb'
import { Transfer } from '@gantry/api/containerd/services/transfer/v1/transfer_pb'
import { Version } from '@gantry/api/containerd/services/version/v1/version_pb'
import { type Instant, toMs } from '@gantry/model/clock'
import { type CallOptions, type Channel, type Client, clientOf } from '@gantry/rpc/client'

/** The services as they are on the wire. */
export interface Services {
  readonly containers: Client<typeof Containers>
  readonly content: Client<typeof Content>
  readonly diff: Client<typeof Diff>
  readonly events: Client<typeof Events>
  readonly images: Client<typeof Images>
  readonly introspection: Client<typeof Introspection>
  readonly leases: Client<typeof Leases>
  readonly namespaces: Client<typeof Namespaces>
  readonly snapshots: Client<typeof Snapshots>
  readonly streaming: Client<typeof Streaming>
  readonly tasks: Client<typeof Tasks>
  readonly transfer: Client<typeof Transfer>
  readonly version: Client<typeof Version>
}

/** What the use cases share: the services, and how a call is made in this client's namespace. */
export interface Wire {
  readonly services: Services
  readonly snapshotter: string
  readonly runtime: string
  readonly namespace: string
  /** Where FIFOs are made. */
  readonly fifoDir: string
  call(signal: AbortSignal, more?: Omit<CallOptions, 'signal' | 'namespace'>): CallOptions
}

export function servicesOf(channel: Channel): Services {
  return {
    containers: clientOf(Containers, channel),
    content: clientOf(Content, channel),
    diff: clientOf(Diff, channel),
    events: clientOf(Events, channel),
    images: clientOf(Images, channel),
    introspection: clientOf(Introspection, channel),
    leases: clientOf(Leases, channel),
    namespaces: clientOf(Namespaces, channel),
    snapshots: clientOf(Snapshots, channel),
    streaming: clientOf(Streaming, channel),
    tasks: clientOf(Tasks, channel),
    transfer: clientOf(Transfer, channel),
    version: clientOf(Version, channel),
  }
}

/** The time of a message, to the millisecond; an absent one is 1970. */
export function toDate(time: Instant | undefined): Date {
  return new Date(time ? toMs(time) : 0)
}
