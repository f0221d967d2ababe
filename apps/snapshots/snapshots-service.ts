import type { MessageInitShape } from '@bufbuild/protobuf'
import type { InfoSchema, Snapshots as SnapshotsProto } from '@gantry/api/containerd/services/snapshots/v1/snapshots_pb'
import { Fault } from '@gantry/model/fault'
import { parseFilters } from '@gantry/model/filter'
import type { CallContext } from '@gantry/rpc/context'
import { type Implementation, unimplemented } from '@gantry/rpc/service'
import { type Open, parseKey } from './snapshot.ts'
import type { Snapshots } from './snapshots.ts'
import { adaptorOf, type ParseScope, toInfo } from './wire.ts'

const LIST_BATCH = 100 // snapshots a message, as containerd does

interface OpenRequest {
  readonly snapshotter: string
  readonly key: string
  readonly parent: string
  readonly labels: Record<string, string>
}

/** containerd.services.snapshots.v1.Snapshots: parse the request, ask `snapshots`, shape the reply. */
export function snapshotsService(snapshots: Snapshots, parseScope: ParseScope): Implementation<typeof SnapshotsProto> {
  const opener = (kind: Open['kind']) => async (request: OpenRequest, context: CallContext) => {
    const scope = parseScope(context.namespace, request.snapshotter)
    const key = parseKey(request.key, 'key')
    const parent = request.parent === '' ? undefined : parseKey(request.parent, 'parent')
    return { mounts: [...(await snapshots.open(scope, { kind, key, parent, labels: request.labels }, context))] }
  }
  return {
    prepare: opener('active'),
    view: opener('view'),

    async mounts({ snapshotter, key }, { namespace, signal }) {
      return { mounts: await snapshots.mounts(parseScope(namespace, snapshotter), parseKey(key, 'key'), signal) }
    },

    async commit({ snapshotter, key, name, parent, labels }, context) {
      const committing = {
        key: parseKey(key, 'key'),
        name: parseKey(name, 'name'),
        parent: parent === '' ? undefined : parseKey(parent, 'parent'),
        labels,
      }
      await snapshots.commit(parseScope(context.namespace, snapshotter), committing, context)
      return {}
    },

    async remove({ snapshotter, key }, context) {
      await snapshots.remove(parseScope(context.namespace, snapshotter), parseKey(key, 'key'), context)
      return {}
    },

    async stat({ snapshotter, key }, { namespace }) {
      return { info: toInfo(snapshots.stat(parseScope(namespace, snapshotter), parseKey(key, 'key'))) }
    },

    async update({ snapshotter, info, updateMask }, { namespace, signal }) {
      if (!info) throw new Fault('invalid-argument', 'Cannot update a snapshot: none is named')
      const change = { labels: info.labels, paths: updateMask?.paths ?? [] }
      const scope = parseScope(namespace, snapshotter)
      return { info: toInfo(await snapshots.relabel(scope, parseKey(info.name, 'name'), change, signal)) }
    },

    async *list({ snapshotter, filters }, { namespace, signal }) {
      const scope = parseScope(namespace, snapshotter)
      const matches = parseFilters(filters)
      let batch: MessageInitShape<typeof InfoSchema>[] = []
      for (const snapshot of snapshots.list(scope)) {
        if (matches(adaptorOf(snapshot))) batch.push(toInfo(snapshot))
        if (batch.length < LIST_BATCH) continue
        yield { info: batch }
        signal.throwIfAborted()
        batch = []
      }
      if (batch.length > 0) yield { info: batch }
    },

    async usage({ snapshotter, key }, { namespace, signal }) {
      return snapshots.usage(parseScope(namespace, snapshotter), parseKey(key, 'key'), signal)
    },

    cleanup: unimplemented('Cleanup of a snapshotter'),
  }
}
