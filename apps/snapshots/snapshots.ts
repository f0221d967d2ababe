import {
  SnapshotCommitSchema,
  SnapshotPrepareSchema,
  SnapshotRemoveSchema,
} from '@gantry/api/containerd/events/snapshot_pb'
import { isFault } from '@gantry/model/fault'
import type { Labels } from '@gantry/model/labels'
import type { Changes } from '@gantry/service/changes'
import type { Driver, Mount, Stack } from './drivers/driver.ts'
import type { Leased, LeaseHolder } from './leases.ts'
import { ancestors, type Rows, type Scope } from './rows.ts'
import {
  type Committing,
  checkCommitting,
  checkOpening,
  commit,
  existing,
  type Key,
  mountable,
  type Opening,
  open,
  relabel,
  removable,
  type Snapshot,
  targetOf,
  type Usage,
} from './snapshot.ts'

/** The use cases: one transaction each. Events are part of it. */
export interface Snapshots {
  /** Opens a snapshot and answers how to mount it. A lease also gets what answers `already-exists`. */
  open(scope: Scope, opening: Opening, call: Leased): Promise<Mount[]>
  mounts(scope: Scope, key: Key): Mount[]
  /** @param measured what it takes on disk, when that is known already */
  commit(scope: Scope, committing: Committing, call: Leased, measured?: Usage): Promise<void>
  /** The name is gone when this resolves; the bytes go in the background. */
  remove(scope: Scope, key: Key, call: Leased): Promise<void>
  /** Makes a folder for a snapshot to come, which no record names: a crash takes it away. */
  stage(): Staged
  /**
   * Commits what lies in a staged folder, whole and on disk, in one step.
   * @throws {Fault} `already-exists` when the name is taken, `not-found` without the parent
   */
  adopt(scope: Scope, staged: Staged, adopting: Adopting, call: Leased): Promise<void>
  /** Takes a staged folder away. */
  abandon(staged: Staged): Promise<void>
  /** Absolute folders of a committed snapshot and of those below, nearest first. */
  layers(scope: Scope, name: Key): string[]
  stat(scope: Scope, key: Key): Snapshot
  has(scope: Scope, key: Key): boolean
  relabel(scope: Scope, key: Key, change: { labels: Labels; paths: readonly string[] }): Promise<Snapshot>
  list(scope: Scope): Iterable<Snapshot>
  usage(scope: Scope, key: Key, signal: AbortSignal): Promise<Usage>
  /** How many there are in each namespace. */
  holdings(): ReadonlyMap<string, number>
}

/** A folder that is to become a committed snapshot. */
export interface Staged {
  readonly id: number
  /** Absolute. */
  readonly root: string
}

export interface Adopting extends Committing {
  /** What it takes on disk. */
  readonly usage: Usage
}

export interface SnapshotsParts {
  readonly rows: Rows
  readonly changes: Changes
  readonly driver: Driver
  readonly leases: LeaseHolder
  /** Milliseconds since 1970. */
  readonly clock: () => number
}

/** Also takes away what a crash has left: folders that no record names. */
export async function createSnapshots(parts: SnapshotsParts): Promise<Snapshots> {
  const { rows, driver } = parts
  const known = new Set(Array.from(rows.list([]), ({ snapshot }) => snapshot.id))
  const onDisk = await driver.recover(known)
  let highest = Math.max(rows.highest(), onDisk)
  const nextId = (): number => ++highest
  return {
    ...readersOf(parts),
    ...writersOf(parts, nextId),
    ...stagingOf(parts, nextId),
  }
}

type Readers = 'layers' | 'mounts' | 'stat' | 'has' | 'list' | 'usage' | 'holdings'

function readersOf({ rows, driver }: SnapshotsParts): Pick<Snapshots, Readers> {
  return {
    mounts(scope, key) {
      const snapshot = mountable(key, rows.find(scope))
      return driver.mounts(stackOf(snapshot.kind, snapshot, scope, rows))
    },
    stat: (scope, key) => existing(key, rows.find(scope)),
    layers(scope, name) {
      const find = rows.find(scope)
      const top = existing(name, find)
      return [top, ...ancestors(top, find)].map(({ id }) => driver.layer(id))
    },
    has: (scope, key) => rows.find(scope)(key) !== undefined,
    *list(scope) {
      for (const { snapshot } of rows.list([scope.namespace, scope.snapshotter])) yield snapshot
    },
    async usage(scope, key, signal) {
      const snapshot = existing(key, rows.find(scope))
      if (snapshot.kind === 'committed') return snapshot.usage
      return snapshot.kind === 'view' ? { size: 0n, inodes: 0n } : driver.usage(snapshot.id, signal)
    },
    holdings() {
      const counts = new Map<string, number>()
      for (const { scope } of rows.list([])) counts.set(scope.namespace, (counts.get(scope.namespace) ?? 0) + 1)
      return counts
    },
  }
}

function writersOf(
  { rows, changes, driver, leases, clock }: SnapshotsParts,
  nextId: () => number,
): Omit<Snapshots, Readers | Staging> {
  return {
    async open(scope, opening, call) {
      const { kind, key, parent, labels } = opening
      const find = rows.find(scope)
      await leases.hold(scope, key, call)
      await holdTarget(scope, labels, call)
      const below = checkOpening(opening, find)
      const id = nextId()
      const stack = { kind, id, parents: below ? [below.id, ...ancestors(below, find).map((each) => each.id)] : [] }
      await driver.create(stack)
      try {
        await changes.write((emit) => {
          checkOpening(opening, find) // again: others went on while the folder was made
          rows.put(scope, open(opening, id, clock()))
          if (kind === 'active')
            emit(scope.namespace, '/snapshot/prepare', SnapshotPrepareSchema, {
              key,
              parent: parent ?? '',
              snapshotter: scope.snapshotter,
            })
        })
      } catch (error) {
        await driver.discard(id)
        throw error
      }
      return driver.mounts(stack)
    },

    async commit(scope, committing, call, measured) {
      const find = rows.find(scope)
      const { key, name } = committing
      await leases.hold(scope, name, call)
      const { id } = checkCommitting(committing, find)
      const usage = measured ?? (await driver.usage(id, call.signal))
      await changes.write((emit) => {
        const from = checkCommitting(committing, find)
        rows.remove(scope, from)
        rows.put(scope, commit(from, committing, { usage, now: clock() }))
        emit(scope.namespace, '/snapshot/commit', SnapshotCommitSchema, { key, name, snapshotter: scope.snapshotter })
      })
      await leases.letGo(scope, key, call)
    },

    async remove(scope, key, call) {
      const find = rows.find(scope)
      const { id } = await changes.write((emit) => {
        const snapshot = removable(key, find, rows.hasChildren)
        rows.remove(scope, snapshot)
        emit(scope.namespace, '/snapshot/remove', SnapshotRemoveSchema, { key, snapshotter: scope.snapshotter })
        return snapshot
      })
      await driver.discard(id)
      await leases.letGo(scope, key, call)
    },

    relabel: (scope, key, { labels, paths }) =>
      changes.write(() => {
        const snapshot = relabel(existing(key, rows.find(scope)), labels, { paths, now: clock() })
        rows.put(scope, snapshot)
        return snapshot
      }),
  }

  async function holdTarget(scope: Scope, labels: Labels, call: Leased): Promise<void> {
    const target = targetOf(labels)
    if (target && rows.find(scope)(target)) await leases.hold(scope, target, call)
  }
}

type Staging = 'stage' | 'adopt' | 'abandon'

function stagingOf(
  { rows, changes, driver, leases, clock }: SnapshotsParts,
  nextId: () => number,
): Pick<Snapshots, Staging> {
  return {
    stage() {
      const id = nextId()
      return { id, root: driver.stage(id) }
    },

    async adopt(scope, { id }, { key, name, parent, labels, usage }, call) {
      const find = rows.find(scope)
      const opening: Opening = { kind: 'active', key, parent, labels }
      await leases.hold(scope, name, call)
      await changes.write((emit) => {
        checkOpening(opening, find)
        const now = clock()
        const committing = { key, name, parent, labels }
        rows.put(scope, commit(open(opening, id, now), committing, { usage, now }))
        const { snapshotter } = scope
        emit(scope.namespace, '/snapshot/prepare', SnapshotPrepareSchema, { key, parent: parent ?? '', snapshotter })
        emit(scope.namespace, '/snapshot/commit', SnapshotCommitSchema, { key, name, snapshotter })
      })
    },

    abandon: ({ id }) => driver.discard(id),
  }
}

function stackOf(kind: Stack['kind'], snapshot: Snapshot, scope: Scope, rows: Rows): Stack {
  return { kind, id: snapshot.id, parents: ancestors(snapshot, rows.find(scope)).map(({ id }) => id) }
}

/** Is `error` the answer that the snapshot is there already? */
export function isThere(error: unknown): boolean {
  return isFault(error, 'already-exists')
}
