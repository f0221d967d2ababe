/**
 * What this process stores, and under which keys:
 *
 *   snapshots  <namespace> <snapshotter> <key or name>     the snapshot
 *   children   <id of the parent> <id>                     nothing: it says that the parent has a child
 *   counters   id                                          the highest number given to a snapshot so far
 */
import type { Namespace } from '@gantry/model/namespace'
import { jsonCodec } from '@gantry/store/codec'
import type { Store } from '@gantry/store/store'
import type { Table } from '@gantry/store/table'
import type { Committed, Find, Key, Snapshot } from './snapshot.ts'

/** As stored: no bigint, no key (the row has it), null for absent. */
interface Row {
  readonly id: number
  readonly kind: Snapshot['kind']
  readonly parent: string | null
  readonly labels: Readonly<Record<string, string>>
  readonly createdAt: number
  readonly updatedAt: number
  readonly size: string | null
  readonly inodes: string | null
}

/** Whose snapshots are meant. */
export interface Scope {
  readonly namespace: Namespace
  readonly snapshotter: string
}

export interface Rows {
  /** The snapshot with that key or name in `scope`. */
  find(scope: Scope): Find
  /** All of a scope in key order; of one namespace, or of all, when less is given. */
  list(prefix: readonly string[]): Iterable<{ readonly scope: Scope; readonly snapshot: Snapshot }>
  /** Where there are any, in order. */
  scopes(): Iterable<Scope>
  hasChildren(snapshot: Snapshot): boolean
  /** Inside a write: stores a new snapshot, or a changed one under the same key. */
  put(scope: Scope, snapshot: Snapshot): void
  /** Inside a write. */
  remove(scope: Scope, snapshot: Snapshot): void
  /** The highest number given so far. */
  highest(): number
}

export function rowsOf(store: Pick<Store, 'table'>): Rows {
  const snapshots = store.table('snapshots', jsonCodec<Row>())
  const children = store.table('children', jsonCodec<true>())
  const counters = store.table('counters', jsonCodec<number>())
  const find =
    (scope: Scope): Find =>
    (key) => {
      const row = snapshots.get([scope.namespace, scope.snapshotter, key])
      return row && fromRow(key, row)
    }
  const childKey = (scope: Scope, { id, parent }: Snapshot): string[] | undefined => {
    const below = parent === undefined ? undefined : find(scope)(parent)
    return below && [String(below.id), String(id)]
  }
  return {
    find,
    *list(prefix) {
      for (const { key, value } of snapshots.list({ prefix })) {
        const [namespace = '', snapshotter = '', name = ''] = key
        yield { scope: { namespace: namespace as Namespace, snapshotter }, snapshot: fromRow(name as Key, value) }
      }
    },
    *scopes() {
      for (const namespace of snapshots.parts([]))
        for (const snapshotter of snapshots.parts([namespace])) yield { namespace: namespace as Namespace, snapshotter }
    },
    hasChildren: ({ id }) => !isEmpty(children, [String(id)]),
    put(scope, snapshot) {
      snapshots.put([scope.namespace, scope.snapshotter, snapshot.key], toRow(snapshot))
      const child = childKey(scope, snapshot)
      if (child) children.put(child, true)
      if (snapshot.id > (counters.get(['id']) ?? 0)) counters.put(['id'], snapshot.id)
    },
    remove(scope, snapshot) {
      snapshots.remove([scope.namespace, scope.snapshotter, snapshot.key])
      const child = childKey(scope, snapshot)
      if (child) children.remove(child)
    },
    highest: () => counters.get(['id']) ?? 0,
  }
}

/** The committed snapshots below `snapshot`, nearest first. */
export function ancestors(snapshot: Pick<Snapshot, 'parent'>, find: Find): Committed[] {
  const chain: Committed[] = []
  for (let key = snapshot.parent; key !== undefined; ) {
    const parent = find(key)
    if (parent?.kind !== 'committed') throw new Error(`The record of the parent ${JSON.stringify(key)} is missing`)
    chain.push(parent)
    key = parent.parent
  }
  return chain
}

function toRow({ id, kind, parent, labels, createdAt, updatedAt, ...rest }: Snapshot): Row {
  const usage = 'usage' in rest ? rest.usage : undefined
  return {
    id,
    kind,
    parent: parent ?? null,
    labels,
    createdAt,
    updatedAt,
    size: usage ? String(usage.size) : null,
    inodes: usage ? String(usage.inodes) : null,
  }
}

function fromRow(key: Key, { kind, parent, size, inodes, ...rest }: Row): Snapshot {
  const common = { ...rest, key, parent: parent === null ? undefined : (parent as Key) }
  if (kind !== 'committed') return { ...common, kind }
  return { ...common, kind, usage: { size: BigInt(size ?? 0), inodes: BigInt(inodes ?? 0) } }
}

function isEmpty<V>(table: Table<V>, prefix: readonly string[]): boolean {
  for (const _ of table.list({ prefix, limit: 1 })) return false
  return true
}
