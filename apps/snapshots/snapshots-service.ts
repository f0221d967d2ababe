import type { MessageInitShape } from '@bufbuild/protobuf'
import type { InfoSchema, Snapshots as SnapshotsProto } from '@gantry/api/containerd/services/snapshots/v1/snapshots_pb'
import { Fault } from '@gantry/model/fault'
import { parseFilters } from '@gantry/model/filter'
import type { CallContext } from '@gantry/rpc/context'
import type { Implementation } from '@gantry/rpc/service'
import { type Open, parseKey } from './snapshot.ts'
import type { Snapshots } from './snapshots.ts'
import { type Address, adaptorOf, isExported, toInfo } from './wire.ts'

const LIST_BATCH = 100 // snapshots a message, as containerd does

interface OpenRequest {
  readonly snapshotter: string
  readonly key: string
  readonly parent: string
  readonly labels: Record<string, string>
}

/** containerd.services.snapshots.v1.Snapshots: parse the request, ask `snapshots`, shape the reply. */
export function snapshotsService(snapshots: Snapshots, address: Address): Implementation<typeof SnapshotsProto> {
  const opener = (kind: Open['kind']) => async (request: OpenRequest, context: CallContext) => {
    const { scope, call, labels } = address(context, request.snapshotter)
    const key = parseKey(request.key, 'key')
    const parent = request.parent === '' ? undefined : parseKey(request.parent, 'parent')
    const opening = { kind, key, parent, labels: { ...request.labels, ...labels } }
    return { mounts: [...(await snapshots.open(scope, opening, call))] }
  }
  return {
    prepare: opener('active'),
    view: opener('view'),

    async mounts({ snapshotter, key }, context) {
      const { scope } = address(context, snapshotter)
      return { mounts: await snapshots.mounts(scope, parseKey(key, 'key'), context.signal) }
    },

    async commit({ snapshotter, key, name, parent, labels }, context) {
      const addressed = address(context, snapshotter)
      const committing = {
        key: parseKey(key, 'key'),
        name: parseKey(name, 'name'),
        parent: parent === '' ? undefined : parseKey(parent, 'parent'),
        labels: { ...labels, ...addressed.labels },
      }
      await snapshots.commit(addressed.scope, committing, addressed.call)
      return {}
    },

    async remove({ snapshotter, key }, context) {
      const { scope, call } = address(context, snapshotter)
      await snapshots.remove(scope, parseKey(key, 'key'), call)
      return {}
    },

    async stat({ snapshotter, key }, context) {
      return { info: toInfo(snapshots.stat(address(context, snapshotter).scope, parseKey(key, 'key'))) }
    },

    async update({ snapshotter, info, updateMask }, context) {
      if (!info) throw new Fault('invalid-argument', 'Cannot update a snapshot: none is named')
      const { scope, labels } = address(context, snapshotter)
      const change = { labels: { ...info.labels, ...labels }, paths: updateMask?.paths ?? [] }
      return { info: toInfo(await snapshots.relabel(scope, parseKey(info.name, 'name'), change, context.signal)) }
    },

    async *list({ snapshotter, filters }, context) {
      const { scope } = address(context, snapshotter)
      const matches = parseFilters(filters)
      let batch: MessageInitShape<typeof InfoSchema>[] = []
      for (const snapshot of snapshots.list(scope)) {
        if (matches(adaptorOf(snapshot))) batch.push(toInfo(snapshot))
        if (batch.length < LIST_BATCH) continue
        yield { info: batch }
        context.signal.throwIfAborted()
        batch = []
      }
      if (batch.length > 0) yield { info: batch }
    },

    async usage({ snapshotter, key }, context) {
      return snapshots.usage(address(context, snapshotter).scope, parseKey(key, 'key'), context.signal)
    },

    /** As with containerd, only another daemon may ask for it. */
    async cleanup({ snapshotter }, context) {
      const addressed = address(context, snapshotter)
      if (!isExported(addressed)) throw new Fault('unimplemented', 'Cleanup of a snapshotter is not implemented')
      await snapshots.cleanup(addressed.scope, context.signal)
      return {}
    },
  }
}
