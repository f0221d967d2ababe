import {
  SnapshotCommitSchema,
  SnapshotPrepareSchema,
  SnapshotRemoveSchema,
} from '@gantry/api/containerd/events/snapshot_pb'
import { Fault, isFault } from '@gantry/model/fault'
import type { Labels } from '@gantry/model/labels'
import type { Changes } from '@gantry/service/changes'
import type { Driver, Mount, Stack, Staging } from './drivers/driver.ts'
import type { Leased, LeaseHolder } from './leases.ts'
import { ancestors, type Rows, type Scope } from './rows.ts'
import {
  type Committing,
  checkCommitting,
  checkOpening,
  commit,
  driverLabels,
  existing,
  type Key,
  mountable,
  type Open,
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
  /**
   * Opens a snapshot and answers how to mount it. A lease also gets what answers `already-exists`: that is said as well
   * when the driver has what the target label asks for, which is a snapshot of that name from then on.
   */
  open(scope: Scope, opening: Opening, call: Leased): Promise<readonly Mount[]>
  mounts(scope: Scope, key: Key, signal: AbortSignal): Promise<Mount[]>
  commit(scope: Scope, committing: Committing, call: Leased): Promise<void>
  /** The name is gone when this resolves; the bytes go in the background. */
  remove(scope: Scope, key: Key, call: Leased): Promise<void>
  /** Can layers be laid out apart from those below? Otherwise there is no `stage`, `adopt` or `layers`. */
  canStage(scope: Scope): boolean
  /** Makes a folder for a snapshot to come, which no record names: a crash takes it away. */
  stage(scope: Scope): Promise<Staged>
  /**
   * Commits what lies in a staged folder, whole and on disk, in one step. The record is written at once, and on disk when
   * this resolves: before any that is written later. The call's lease has to hold the name before.
   * @throws {Fault} `already-exists` when the name is taken, `not-found` without the parent
   */
  adopt(scope: Scope, staged: Staged, adopting: Adopting): Promise<void>
  /** Takes a staged folder away. */
  abandon(staged: Staged): Promise<void>
  /** Absolute folders of a committed snapshot and of those below, nearest first. */
  layers(scope: Scope, name: Key): string[]
  stat(scope: Scope, key: Key): Snapshot
  has(scope: Scope, key: Key): boolean
  relabel(scope: Scope, key: Key, change: Relabelling, signal: AbortSignal): Promise<Snapshot>
  list(scope: Scope): Iterable<Snapshot>
  usage(scope: Scope, key: Key, signal: AbortSignal): Promise<Usage>
  /** Resolves when what was removed before is off the disk. */
  cleanup(scope: Scope, signal: AbortSignal): Promise<void>
  /** Where there are any, in order. */
  scopes(): Iterable<Scope>
  /** Numbers whose trees are being made, and have no record yet. */
  making(): ReadonlySet<number>
}

export interface Relabelling {
  readonly labels: Labels
  readonly paths: readonly string[]
}

/** A folder that is to become a committed snapshot. */
export interface Staged {
  readonly id: number
  readonly snapshotter: string
  /** Absolute. */
  readonly root: string
}

export interface Adopting extends Committing {
  /** What it takes on disk. */
  readonly usage: Usage
}

export interface SnapshotsParts {
  readonly rows: Rows
  readonly changes: Pick<Changes, 'write'>
  readonly drivers: readonly Driver[]
  readonly leases: LeaseHolder
  /** Milliseconds since 1970. */
  readonly clock: () => number
}

/** Also takes away what a crash has left: trees that no record names. */
export async function createSnapshots(parts: SnapshotsParts): Promise<Snapshots> {
  const { rows, drivers } = parts
  const byName = new Map(drivers.map((driver) => [driver.name, { driver, known: new Set<number>() }]))
  for (const { scope, snapshot } of rows.list([])) byName.get(scope.snapshotter)?.known.add(snapshot.id)
  const seen = await Promise.all(Array.from(byName.values(), ({ driver, known }) => driver.recover(known)))
  let highest = Math.max(rows.highest(), ...seen)
  const making = new Set<number>()
  const inner: Inner = {
    ...parts,
    making,
    committing: new Set(),
    nextId() {
      making.add(++highest)
      return highest
    },
    driverOf({ snapshotter }) {
      const found = byName.get(snapshotter)
      if (!found) throw new Error(`There is no driver "${snapshotter}"`)
      return found.driver
    },
  }
  return { ...readersOf(inner), ...writersOf(inner), ...stagingOf(inner), making: () => making }
}

interface Inner extends SnapshotsParts {
  readonly making: Set<number>
  /** Numbers that a driver commits just now. */
  readonly committing: Set<number>
  /** It is among `making` until it has a record, or is given up. */
  readonly nextId: () => number
  readonly driverOf: (scope: Pick<Scope, 'snapshotter'>) => Driver
}

type Readers = 'layers' | 'mounts' | 'stat' | 'has' | 'list' | 'usage' | 'cleanup' | 'scopes' | 'canStage'

function readersOf({ rows, driverOf }: Inner): Pick<Snapshots, Readers> {
  return {
    async mounts(scope, key, signal) {
      const snapshot = mountable(key, rows.find(scope))
      const parents = ancestors(snapshot, rows.find(scope)).map(({ id }) => id)
      const labels = driverLabels(snapshot.labels)
      return driverOf(scope).mounts({ kind: snapshot.kind, id: snapshot.id, parents, labels }, signal)
    },
    stat: (scope, key) => existing(key, rows.find(scope)),
    canStage: (scope) => driverOf(scope).staging !== undefined,
    layers(scope, name) {
      const find = rows.find(scope)
      const top = existing(name, find)
      return [top, ...ancestors(top, find)].map(({ id }) => stagingIn(driverOf(scope)).layer(id))
    },
    has: (scope, key) => rows.find(scope)(key) !== undefined,
    *list(scope) {
      for (const { snapshot } of rows.list([scope.namespace, scope.snapshotter])) yield snapshot
    },
    async usage(scope, key, signal) {
      const snapshot = existing(key, rows.find(scope))
      if (snapshot.kind === 'committed') return snapshot.usage
      if (snapshot.kind === 'view') return { size: 0n, inodes: 0n }
      return driverOf(scope)
        .usage(snapshot.id, signal)
        .catch((error: unknown) => {
          existing(key, rows.find(scope)) // it may have been removed meanwhile
          throw error
        })
    },
    cleanup: (scope, signal) => driverOf(scope).cleanup(signal),
    scopes: rows.scopes,
  }
}

function writersOf(inner: Inner): Omit<Snapshots, Readers | StagingUses | 'making'> {
  const { rows, changes, driverOf, leases, clock, nextId, making } = inner
  return {
    async open(scope, opening, call) {
      const { kind, key, labels } = opening
      const find = rows.find(scope)
      const driver = driverOf(scope)
      await leases.hold(scope, key, call)
      await holdTarget(scope, labels, call)
      const below = checkOpening(opening, find)
      const parents = below ? [below.id, ...ancestors(below, find).map(({ id }) => id)] : []
      const stack: Stack = { kind, id: nextId(), parents, labels: driverLabels(labels) }
      using _ = { [Symbol.dispose]: () => void making.delete(stack.id) }
      const creating = { scope, opening, stack }
      try {
        const creation = await driver.create(stack, { namespace: scope.namespace, key }, call.signal)
        if ('made' in creation) {
          await recordOpen(inner, creating)
          return creation.made
        }
        await adoptFound(inner, creating, call)
      } catch (error) {
        await driver.discard(stack.id)
        checkStill(creating, rows) // what the driver failed for may be that its parent has gone
        throw error
      }
      throw new Fault('already-exists', `target snapshot ${JSON.stringify(targetOf(labels))}: already exists`)
    },

    commit: (scope, committing, call) => commitOpen(inner, { scope, committing }, call),

    async remove(scope, key, call) {
      const find = rows.find(scope)
      const { id } = await changes.write((emit) => {
        const snapshot = removable(key, find, rows.hasChildren)
        rows.remove(scope, snapshot)
        emit(scope.namespace, '/snapshot/remove', SnapshotRemoveSchema, { key, snapshotter: scope.snapshotter })
        return snapshot
      })
      await driverOf(scope).discard(id)
      await leases.letGo(scope, key, call)
    },

    async relabel(scope, key, { labels, paths }, signal) {
      const snapshot = await changes.write(() => {
        const changed = relabel(existing(key, rows.find(scope)), labels, { paths, now: clock() })
        rows.put(scope, changed)
        return changed
      })
      await driverOf(scope).relabel(snapshot.id, driverLabels(snapshot.labels), signal)
      return snapshot
    },
  }

  async function holdTarget(scope: Scope, labels: Labels, call: Leased): Promise<void> {
    const target = targetOf(labels)
    if (target && rows.find(scope)(target)) await leases.hold(scope, target, call)
  }
}

interface Creating {
  readonly scope: Scope
  readonly opening: Opening
  readonly stack: Stack
}

/** Others went on while the tree was made: its parent may be another one of that name. @throws {Fault} */
function checkStill({ scope, opening, stack }: Creating, rows: Rows): void {
  const below = checkOpening(opening, rows.find(scope))
  if (below?.id !== stack.parents[0])
    throw new Fault('not-found', `parent snapshot ${opening.parent} was removed: not found`)
}

/** The tree is there: now it gets its name. */
async function recordOpen({ rows, changes, clock }: Inner, creating: Creating): Promise<void> {
  const { scope, opening, stack } = creating
  const { kind, key, parent } = opening
  const { namespace, snapshotter } = scope
  await changes.write((emit) => {
    checkStill(creating, rows)
    rows.put(scope, open(opening, stack.id, clock()))
    if (kind === 'active')
      emit(namespace, '/snapshot/prepare', SnapshotPrepareSchema, { key, parent: parent ?? '', snapshotter })
  })
}

/** The driver has the layer that the opening asks for: it is a committed snapshot from now on. */
async function adoptFound(inner: Inner, creating: Creating, call: Leased): Promise<void> {
  const { scope, opening, stack } = creating
  const { id } = stack
  const { rows, changes, clock, leases, driverOf } = inner
  const name = targetOf(opening.labels)
  if (name === undefined) throw new Error('A driver found what nobody has asked for')
  const { parent, labels } = opening
  await leases.hold(scope, name, call)
  const usage = await driverOf(scope).usage(id, call.signal)
  await changes.write(() => {
    checkStill(creating, rows)
    const now = clock()
    rows.put(scope, commit(open(opening, id, now), { key: opening.key, name, parent, labels }, { usage, now }))
  })
}

interface Commit {
  readonly scope: Scope
  readonly committing: Committing
}

async function commitOpen(inner: Inner, { scope, committing }: Commit, call: Leased): Promise<void> {
  const { rows, changes, driverOf, leases, clock, committing: busy } = inner
  const find = rows.find(scope)
  const { key, name } = committing
  const driver = driverOf(scope)
  await leases.hold(scope, name, call)
  const { id, parent } = checkCommitting(committing, find)
  if (busy.has(id))
    throw new Fault('failed-precondition', `Cannot commit ${JSON.stringify(key)}: it is being committed`)
  busy.add(id)
  using _ = { [Symbol.dispose]: () => void busy.delete(id) }
  const onto = parent === undefined ? committing.parent : undefined
  const rebased = onto && find(onto)?.id
  const { namespace } = scope
  const commitment = { namespace, name, parent: rebased, labels: driverLabels(committing.labels) }
  const still = (): Open => {
    const from = checkCommitting(committing, find)
    if (from.id !== id || (onto && find(onto)?.id) !== rebased)
      throw new Fault('not-found', `snapshot ${key} or its parent was removed: not found`)
    return from
  }
  let usage: Usage
  try {
    await driver.commit(id, commitment, call.signal)
    usage = await driver.usage(id, call.signal)
  } catch (error) {
    still()
    throw error
  }
  await changes.write((emit) => {
    const from = still()
    rows.remove(scope, from)
    rows.put(scope, commit(from, committing, { usage, now: clock() }))
    emit(scope.namespace, '/snapshot/commit', SnapshotCommitSchema, { key, name, snapshotter: scope.snapshotter })
  })
  await leases.letGo(scope, key, call)
}

type StagingUses = 'stage' | 'adopt' | 'abandon'

function stagingOf({ rows, changes, driverOf, clock, nextId, making }: Inner): Pick<Snapshots, StagingUses> {
  return {
    async stage({ snapshotter }) {
      const driver = driverOf({ snapshotter })
      const id = nextId()
      try {
        return { id, snapshotter, root: await stagingIn(driver).stage(id) }
      } catch (error) {
        making.delete(id)
        await driver.discard(id)
        throw error
      }
    },

    async adopt(scope, { id }, { key, name, parent, labels, usage }) {
      const find = rows.find(scope)
      const opening: Opening = { kind: 'active', key, parent, labels }
      await changes.write((emit) => {
        checkOpening(opening, find)
        const now = clock()
        const committing = { key, name, parent, labels }
        rows.put(scope, commit(open(opening, id, now), committing, { usage, now }))
        const { snapshotter } = scope
        emit(scope.namespace, '/snapshot/prepare', SnapshotPrepareSchema, { key, parent: parent ?? '', snapshotter })
        emit(scope.namespace, '/snapshot/commit', SnapshotCommitSchema, { key, name, snapshotter })
      })
      making.delete(id)
    },

    async abandon(staged) {
      making.delete(staged.id)
      await driverOf(staged).discard(staged.id)
    },
  }
}

function stagingIn({ name, staging }: Driver): Staging {
  if (!staging) throw new Error(`The driver "${name}" lays out no layer apart from those below`)
  return staging
}

/** Is `error` the answer that the snapshot is there already? */
export function isThere(error: unknown): boolean {
  return isFault(error, 'already-exists')
}
