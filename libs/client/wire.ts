import type { Containers } from '@gantry/api/containerd/services/containers/v1/containers_pb'
import type { Content } from '@gantry/api/containerd/services/content/v1/content_pb'
import type { Diff } from '@gantry/api/containerd/services/diff/v1/diff_pb'
import type { Events } from '@gantry/api/containerd/services/events/v1/events_pb'
import type { Images } from '@gantry/api/containerd/services/images/v1/images_pb'
import type { Introspection } from '@gantry/api/containerd/services/introspection/v1/introspection_pb'
import type { Leases } from '@gantry/api/containerd/services/leases/v1/leases_pb'
import type { Namespaces } from '@gantry/api/containerd/services/namespaces/v1/namespace_pb'
import type { Controller, Store } from '@gantry/api/containerd/services/sandbox/v1/sandbox_pb'
import type { Snapshots } from '@gantry/api/containerd/services/snapshots/v1/snapshots_pb'
import type { Streaming } from '@gantry/api/containerd/services/streaming/v1/streaming_pb'
import type { Tasks } from '@gantry/api/containerd/services/tasks/v1/tasks_pb'
import type { Transfer } from '@gantry/api/containerd/services/transfer/v1/transfer_pb'
import type { Version } from '@gantry/api/containerd/services/version/v1/version_pb'
import type { Audit } from '@gantry/api/gantry/audit/v1/audit_pb'
import { type Instant, toMs } from '@gantry/model/clock'
import { type CallOptions, type Channel, type Client, clientOf } from '@gantry/rpc/client'
import { deferred } from '@gantry/rpc/deferred'

/** The services as they are on the wire. */
export interface Services {
  /** Who changed what: only Gantry has it. */
  readonly audit: Client<typeof Audit>
  readonly containers: Client<typeof Containers>
  readonly content: Client<typeof Content>
  readonly diff: Client<typeof Diff>
  readonly events: Client<typeof Events>
  readonly images: Client<typeof Images>
  readonly introspection: Client<typeof Introspection>
  readonly leases: Client<typeof Leases>
  readonly namespaces: Client<typeof Namespaces>
  /** Records of sandboxes. */
  readonly sandboxes: Client<typeof Store>
  readonly sandboxController: Client<typeof Controller>
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
  /** Where FIFOs are made; empty where the server cannot reach them. */
  readonly fifoDir: string
  call(signal: AbortSignal, more?: Omit<CallOptions, 'signal' | 'namespace'>): CallOptions
}

/** Each is read when it is first called. */
export function servicesOf(channel: Channel): Services {
  return {
    audit: deferred(async () => clientOf((await import('@gantry/api/gantry/audit/v1/audit_pb')).Audit, channel), {
      read: true,
    }),
    containers: deferred(
      async () =>
        clientOf((await import('@gantry/api/containerd/services/containers/v1/containers_pb')).Containers, channel),
      { listStream: true },
    ),
    content: deferred(
      async () => clientOf((await import('@gantry/api/containerd/services/content/v1/content_pb')).Content, channel),
      { list: true, read: true, write: true },
    ),
    diff: deferred(
      async () => clientOf((await import('@gantry/api/containerd/services/diff/v1/diff_pb')).Diff, channel),
      {},
    ),
    events: deferred(
      async () => clientOf((await import('@gantry/api/containerd/services/events/v1/events_pb')).Events, channel),
      { subscribe: true },
    ),
    images: deferred(
      async () => clientOf((await import('@gantry/api/containerd/services/images/v1/images_pb')).Images, channel),
      {},
    ),
    introspection: deferred(
      async () =>
        clientOf(
          (await import('@gantry/api/containerd/services/introspection/v1/introspection_pb')).Introspection,
          channel,
        ),
      {},
    ),
    leases: deferred(
      async () => clientOf((await import('@gantry/api/containerd/services/leases/v1/leases_pb')).Leases, channel),
      {},
    ),
    namespaces: deferred(
      async () =>
        clientOf((await import('@gantry/api/containerd/services/namespaces/v1/namespace_pb')).Namespaces, channel),
      {},
    ),
    sandboxes: deferred(
      async () => clientOf((await import('@gantry/api/containerd/services/sandbox/v1/sandbox_pb')).Store, channel),
      {},
    ),
    sandboxController: deferred(
      async () => clientOf((await import('@gantry/api/containerd/services/sandbox/v1/sandbox_pb')).Controller, channel),
      {},
    ),
    snapshots: deferred(
      async () =>
        clientOf((await import('@gantry/api/containerd/services/snapshots/v1/snapshots_pb')).Snapshots, channel),
      { list: true },
    ),
    streaming: deferred(
      async () =>
        clientOf((await import('@gantry/api/containerd/services/streaming/v1/streaming_pb')).Streaming, channel),
      { stream: true },
    ),
    tasks: deferred(
      async () => clientOf((await import('@gantry/api/containerd/services/tasks/v1/tasks_pb')).Tasks, channel),
      {},
    ),
    transfer: deferred(
      async () => clientOf((await import('@gantry/api/containerd/services/transfer/v1/transfer_pb')).Transfer, channel),
      {},
    ),
    version: deferred(
      async () => clientOf((await import('@gantry/api/containerd/services/version/v1/version_pb')).Version, channel),
      {},
    ),
  }
}

/** The time of a message, to the millisecond; an absent one is 1970. */
export function toDate(time: Instant | undefined): Date {
  return new Date(time ? toMs(time) : 0)
}
