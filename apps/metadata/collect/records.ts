import { ImageDeleteSchema } from '@gantry/api/containerd/events/image_pb'
import type { Container } from '@gantry/api/containerd/services/containers/v1/containers_pb'
import type { Image } from '@gantry/api/containerd/services/images/v1/images_pb'
import type { Lease } from '@gantry/api/containerd/services/leases/v1/leases_pb'
import type { Sandbox } from '@gantry/api/containerd/types/sandbox_pb'
import type { Barrier } from '@gantry/service/barrier'
import type { Changes } from '@gantry/service/changes'
import { type Keeper, type Node, nodeOf, type ThingName } from '@gantry/service/collection'
import type { Key } from '@gantry/store/table'
import { type Rows, removeUnder, valuesUnder } from '../rows.ts'

/** The rows, with all that is written to them noted for the collection that runs. */
export function watchRows(rows: Rows, barrier: Barrier): Rows {
  const named =
    (kind: string) =>
    ([namespace = '', id = '']: Key): ThingName => ({ namespace, kind, id })
  return {
    ...rows,
    images: barrier.watch(rows.images, named('images')),
    containers: barrier.watch(rows.containers, named('containers')),
    leases: barrier.watch(rows.leases, named('leases')),
    sandboxes: barrier.watch(rows.sandboxes, named('sandboxes')),
    leaseResources: barrier.watch(rows.leaseResources, named('leases')),
  }
}

/**
 * What this process itself keeps, as the collection sees it. Of these only leases and images can go: when they have expired.
 *
 * @param changes not those that a pause holds back
 */
export function createRecordsKeeper({ rows, changes }: { rows: Rows; changes: Pick<Changes, 'write'> }): Keeper {
  const leaseNode = (namespace: string, { id, labels }: Lease): Node => {
    const refs = valuesUnder(rows.leaseResources, [namespace, id]).map(({ type, id }) => ({ kind: type, id }))
    return nodeOf({ namespace, kind: 'leases', id }, { labels, refs })
  }
  return {
    *nodes() {
      for (const { key, value } of rows.images.list()) yield imageNode(key[0] ?? '', value)
      for (const { key, value } of rows.containers.list()) yield containerNode(key[0] ?? '', value)
      for (const { key, value } of rows.leases.list()) yield leaseNode(key[0] ?? '', value)
      for (const { key, value } of rows.sandboxes.list()) yield sandboxNode(key[0] ?? '', value)
    },

    node({ namespace, kind, id }) {
      const image = kind === 'images' ? rows.images.get([namespace, id]) : undefined
      const container = kind === 'containers' ? rows.containers.get([namespace, id]) : undefined
      const sandbox = kind === 'sandboxes' ? rows.sandboxes.get([namespace, id]) : undefined
      const lease = kind === 'leases' ? rows.leases.get([namespace, id]) : undefined
      if (image) return imageNode(namespace, image)
      if (container) return containerNode(namespace, container)
      if (sandbox) return sandboxNode(namespace, sandbox)
      return lease && leaseNode(namespace, lease)
    },

    inUse: () => [],

    sweep: (things) =>
      changes.write((emit) => {
        const gone = things.filter(({ namespace, kind, id }) => {
          const table = kind === 'images' ? rows.images : kind === 'leases' ? rows.leases : undefined
          if (!table?.has([namespace, id])) return false
          table.remove([namespace, id])
          if (kind === 'leases') removeUnder(rows.leaseResources, [namespace, id])
          else emit(namespace, '/images/delete', ImageDeleteSchema, { name: id })
          return true
        })
        return gone.length
      }, 'stored'),

    clean: async () => {},
  }
}

function imageNode(namespace: string, { name, labels, target }: Image): Node {
  const refs = target ? [{ kind: 'content', id: target.digest }] : []
  return nodeOf({ namespace, kind: 'images', id: name }, { labels, refs })
}

function containerNode(namespace: string, { id, labels, snapshotter, snapshotKey }: Container): Node {
  const refs = snapshotKey === '' ? [] : [{ kind: `snapshots/${snapshotter}`, id: snapshotKey }]
  return nodeOf({ namespace, kind: 'containers', id }, { labels, refs })
}

function sandboxNode(namespace: string, { sandboxId, labels }: Sandbox): Node {
  return nodeOf({ namespace, kind: 'sandboxes', id: sandboxId }, { labels })
}
