import { readFileSync } from 'node:fs'
import { SnapshotRemoveSchema } from '@gantry/api/containerd/events/snapshot_pb'
import { Collection } from '@gantry/api/gantry/collection/v1/collection_pb'
import type { Namespace } from '@gantry/model/namespace'
import { type Binding, bind } from '@gantry/rpc/service'
import { type Barrier, createBarrier } from '@gantry/service/barrier'
import type { Changes } from '@gantry/service/changes'
import {
  collectionService,
  type Keeper,
  localParty,
  type Node,
  nodeOf,
  type ThingName,
} from '@gantry/service/collection'
import type { Store } from '@gantry/store/store'
import type { ActivationRow, Activations } from './mounts/activations.ts'
import type { Rows, Scope } from './rows.ts'
import { parseKey, type Snapshot } from './snapshot.ts'

const KIND = 'snapshots/'
const MOUNTS = 'mounts'

/** What the rest of the process works with, so that a collection sees what it does and can hold it back for a moment. */
export interface SnapshotsCollection {
  readonly store: Pick<Store, 'table'>
  readonly changes: Pick<Changes, 'write'>
  /** gantry.collection.v1.Collection */
  binding(parts: Omit<KeeperParts, 'changes' | 'mountTable'>): Binding
}

export function openCollection(store: Store, changes: Changes): SnapshotsCollection {
  const barrier = createBarrier(changes)
  return {
    store: watchStore(store, barrier),
    changes: barrier.changes,
    binding(parts) {
      const keeper = createSnapshotsKeeper({ ...parts, changes, mountTable })
      return bind(Collection, collectionService(localParty(barrier, keeper)))
    },
  }
}

/** The store, with what is written to snapshots and active mounts noted for the collection that runs. */
function watchStore(store: Store, barrier: Barrier): Pick<Store, 'table'> {
  return {
    table(name, codec) {
      const table = store.table(name, codec)
      if (name === 'activations')
        return barrier.watch(table, ([namespace = '', id = '']) => ({ namespace, kind: MOUNTS, id }))
      if (name !== 'snapshots') return table
      return barrier.watch(table, ([namespace = '', snapshotter = '', id = '']) => ({
        namespace,
        kind: KIND + snapshotter,
        id,
      }))
    },
  }
}

interface KeeperParts {
  readonly rows: Rows
  readonly activations: Pick<Activations, 'all' | 'get' | 'drop' | 'takeDown'>
  /** Takes the folder of a snapshot that has no name any more away. */
  readonly discard: (scope: Scope, snapshot: Snapshot) => Promise<void>
  /** Not those that a pause holds back. */
  readonly changes: Pick<Changes, 'write'>
  /** Folders of the drivers, absolute. */
  readonly roots: readonly string[]
  /** The mounts of this host, in the kernel's form. */
  readonly mountTable: () => string
  /** Hears of what could not be taken away; the next collection tries again. */
  readonly report: (error: unknown, name: string) => void
}

/** What snapshots keeps, as the collection sees it. What is mounted somewhere is in use, whatever the records say. */
export function createSnapshotsKeeper(parts: KeeperParts): Keeper {
  const { rows, activations, discard, changes, mountTable, roots, report } = parts
  let byNumber = new Map<number, ThingName>()
  const gone: { scope: Scope; snapshot: Snapshot }[] = []
  const ended: ActivationRow[] = []
  const find = ({ namespace, kind, id }: ThingName): Found | undefined => {
    if (kind === MOUNTS) return undefined
    const scope = { namespace: namespace as Namespace, snapshotter: kind.slice(KIND.length) }
    const snapshot = rows.find(scope)(parseKey(id, 'key'))
    return snapshot && { scope, snapshot }
  }
  return {
    *nodes() {
      byNumber = new Map()
      for (const found of rows.list([])) {
        const node = nodeFor(found)
        byNumber.set(found.snapshot.id, node.thing)
        yield node
      }
      for (const { namespace, name, row } of activations.all()) yield mountNode(namespace, name, row)
    },

    node(thing) {
      const active = thing.kind === MOUNTS ? activations.get(thing.namespace, thing.id) : undefined
      if (active) return mountNode(thing.namespace, thing.id, active)
      const found = find(thing)
      return found && nodeFor(found)
    },

    inUse: () => mountedNumbers(mountTable(), roots).flatMap((id) => byNumber.get(id) ?? []),

    async sweep(things) {
      const [swept, dropped] = await changes.write((emit) => {
        const mounts = things.filter(({ kind }) => kind === MOUNTS)
        const dropped = mounts.flatMap(({ namespace, id }) => activations.drop(namespace, id) ?? [])
        const swept = things.flatMap((thing) => {
          const found = find(thing)
          if (!found || rows.hasChildren(found.snapshot)) return []
          const { scope, snapshot } = found
          rows.remove(scope, snapshot)
          const { key } = snapshot
          emit(scope.namespace, '/snapshot/remove', SnapshotRemoveSchema, { key, snapshotter: scope.snapshotter })
          return [found]
        })
        return [swept, dropped] as const
      }, 'stored')
      gone.push(...swept) // only now: a write that fails takes no name away
      ended.push(...dropped)
      return swept.length + dropped.length
    },

    /** What cannot be taken away now waits for the next time, and keeps nothing else from going. */
    async clean() {
      for (const found of gone.splice(0))
        try {
          await discard(found.scope, found.snapshot)
        } catch (error) {
          gone.push(found)
          report(error, found.snapshot.key)
        }
      for (const row of ended.splice(0))
        try {
          await activations.takeDown(row)
        } catch (error) {
          ended.push(row)
          report(error, row.id)
        }
    },
  }
}

interface Found {
  readonly scope: Scope
  readonly snapshot: Snapshot
}

function nodeFor({ scope, snapshot }: Found): Node {
  const { key, parent, labels } = snapshot
  const kind = KIND + scope.snapshotter
  return nodeOf(
    { namespace: scope.namespace, kind, id: key },
    {
      labels,
      refs: parent === undefined ? [] : [{ kind, id: parent }],
      size: snapshot.kind === 'committed' ? snapshot.usage.size : 0n,
    },
  )
}

function mountNode(namespace: string, id: string, { labels, lease }: ActivationRow): Node {
  const heldBy = lease === undefined ? [] : [{ kind: 'leases', id: lease }]
  return nodeOf({ namespace, kind: MOUNTS, id }, { labels, heldBy })
}

/** The mounts of this host, in the kernel's form. */
export function mountTable(): string {
  return readFileSync('/proc/self/mountinfo', 'utf8')
}

/**
 * Numbers of folders `<root>/<number>` that mounts lead to: as the source of a bind mount, or among the folders of an
 * overlay, which may be named through a descriptor. A file system need not be mounted where its own root is, so for a
 * bind mount one of the two paths has to end in the other. Too many does no harm.
 *
 * @param roots folders of the drivers, absolute
 */
export function mountedNumbers(table: string, roots: readonly string[]): number[] {
  const numbers = new Set<number>()
  const isOurs = (folder: string): boolean =>
    /^\/proc\/self\/fd\/\d+$/.test(folder) || roots.some((root) => isEndOf(folder, root) || isEndOf(root, folder))
  for (const line of table.split('\n')) {
    const [mount = '', fileSystem = ''] = line.split(' - ')
    const source = mount.split(' ')[3] ?? ''
    const layers = fileSystem.startsWith('overlay ') ? fileSystem.split(/[ ,:=]/) : []
    for (const path of [source, ...layers])
      for (const { index, 1: number } of path.matchAll(/\/(\d+)(?=\/|$)/g))
        if (isOurs(path.slice(0, index))) numbers.add(Number(number))
  }
  return [...numbers]
}

function isEndOf(end: string, path: string): boolean {
  return end !== '' && path.endsWith(end)
}
