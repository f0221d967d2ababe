import type { DescMethod, DescService } from '@bufbuild/protobuf'
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
import { Status } from '@gantry/api/gantry/status/v1/status_pb'
import { pathOf } from '@gantry/rpc/service'
import { namespacePath, type TargetPath, targetPath } from '../audit/target.ts'

export type Kind = 'read' | 'write'

/**
 * What a call concerns: the namespace in its header; what its body names, which the gateway has to read; the node as a
 * whole, without the things of any namespace.
 */
export type Scope = 'header' | 'body' | 'node'

/** What a caller needs for a method. */
export interface Access {
  readonly method: DescMethod
  readonly kind: Kind
  readonly scope: Scope
  /** Where its request names what it is about; not of a read that its headers decide on. */
  readonly target: TargetPath | undefined
  /** Where its request names the namespace, when no header does. */
  readonly namespace: TargetPath | undefined
}

/** One word a method of the service: leave one out and it does not compile. */
type Kinds<S extends DescService> = { readonly [K in keyof S['method']]: Kind }

/**
 * Every method of the public API by its path. What changes nothing that another call could see is a read: waiting, too,
 * and not what makes a view, a stream or a blob.
 */
export const METHODS: ReadonlyMap<string, Access> = new Map([
  ...allow(Containers, 'header', {
    ...{ get: 'read', list: 'read', listStream: 'read' },
    ...{ create: 'write', update: 'write', delete: 'write' },
  }),
  ...allow(Content, 'header', {
    ...{ info: 'read', list: 'read', read: 'read', status: 'read', listStatuses: 'read' },
    ...{ write: 'write', update: 'write', delete: 'write', abort: 'write' },
  }),
  ...allow(Diff, 'header', { apply: 'write', diff: 'write' }),
  ...allow(Events, 'body', { publish: 'write', forward: 'write', subscribe: 'read' }),
  ...allow(Images, 'header', {
    ...{ get: 'read', list: 'read' },
    ...{ create: 'write', update: 'write', delete: 'write' },
  }),
  ...allow(Introspection, 'node', { plugins: 'read', server: 'read', pluginInfo: 'read' }),
  ...allow(Leases, 'header', {
    ...{ list: 'read', listResources: 'read' },
    ...{ create: 'write', delete: 'write', addResource: 'write', deleteResource: 'write' },
  }),
  ...allow(Mounts, 'header', {
    ...{ info: 'read', list: 'read' },
    ...{ activate: 'write', deactivate: 'write', update: 'write' },
  }),
  ...allow(Namespaces, 'body', { get: 'read', list: 'read', create: 'write', update: 'write', delete: 'write' }),
  ...allow(Store, 'header', { get: 'read', list: 'read', create: 'write', update: 'write', delete: 'write' }),
  ...allow(Controller, 'header', {
    ...{ platform: 'read', wait: 'read', status: 'read', metrics: 'read' },
    ...{ create: 'write', start: 'write', stop: 'write', shutdown: 'write', update: 'write' },
  }),
  ...allow(Snapshots, 'header', {
    ...{ mounts: 'read', stat: 'read', list: 'read', usage: 'read' },
    ...{ prepare: 'write', view: 'write', commit: 'write', remove: 'write', update: 'write', cleanup: 'write' },
  }),
  ...allow(Streaming, 'header', { stream: 'write' }),
  ...allow(Tasks, 'header', {
    ...{ get: 'read', list: 'read', listPids: 'read', metrics: 'read', wait: 'read' },
    ...{ create: 'write', start: 'write', delete: 'write', deleteProcess: 'write', kill: 'write', exec: 'write' },
    ...{ resizePty: 'write', closeIO: 'write', pause: 'write', resume: 'write', checkpoint: 'write', update: 'write' },
  }),
  ...allow(Transfer, 'header', { transfer: 'write' }),
  ...allow(Version, 'node', { version: 'read' }),
  ...allow(Status, 'node', { get: 'read' }),
  ...allow(Audit, 'body', { read: 'read' }), // it tells of all namespaces: for those who may do everything
])

/** Calls that last until something happens, or for ever: a gateway that stops does not wait for their end. */
export const LASTING: ReadonlySet<string> = new Set(
  [Events.method.subscribe, Tasks.method.wait, Controller.method.wait, Streaming.method.stream].map(pathOf),
)

function allow<S extends DescService>(service: S, scope: Scope, kinds: Kinds<S>): [string, Access][] {
  return service.methods.map((method) => {
    const kind = kinds[method.localName as keyof Kinds<S>]
    const target = kind === 'write' || scope === 'body' ? targetPath(method) : undefined
    return [pathOf(method), { method, kind, scope, target, namespace: namespacePath(method) }]
  })
}
