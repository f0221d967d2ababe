import { Fault } from '@gantry/model/fault'
import { checkLabels, type Labels, withoutEmpty } from '@gantry/model/labels'
import { parseMask, updateMap } from '@gantry/model/mask'

/**
 * The life of a snapshot:
 *
 *   prepare --> active --commit--> committed --remove--> (gone)
 *   view    --> view   ------------------------remove--> (gone)
 *
 * Only a committed snapshot can be a parent. Committing frees the key and claims the name; the number stays.
 */
export type Snapshot = Open | Committed

interface Common {
  /** Names its folder; never used twice. */
  readonly id: number
  /** Key while it is open, name once it is committed: one flat name space. */
  readonly key: Key
  readonly parent: Key | undefined
  readonly labels: Labels
  /** Milliseconds since 1970. */
  readonly createdAt: number
  readonly updatedAt: number
}

export interface Open extends Common {
  readonly kind: 'active' | 'view'
}

export interface Committed extends Common {
  readonly kind: 'committed'
  readonly usage: Usage
}

export interface Usage {
  /** Bytes on disk. */
  readonly size: bigint
  readonly inodes: bigint
}

/** Key or name of a snapshot: any text but the empty one. */
export type Key = string & { readonly __brand: 'Key' }

/** Asks for a snapshot of a remote store: the name it would be known by. */
export const TARGET_LABEL = 'containerd.io/snapshot.ref'

/** Labels whose names begin so are for the driver, too (behaviour facts, 6). */
const DRIVER_PREFIX = 'containerd.io/snapshot/'

/** @throws {Fault} `invalid-argument` when it is empty */
export function parseKey(text: string, what: 'key' | 'name' | 'parent'): Key {
  if (text === '' || text.includes('\0'))
    throw new Fault('invalid-argument', `Cannot use the snapshot ${what} "${text}"`)
  return text as Key
}

/** The reading side of the records that the rules ask. */
export type Find = (key: Key) => Snapshot | undefined

export interface Opening {
  readonly kind: Open['kind']
  readonly key: Key
  readonly parent: Key | undefined
  readonly labels: Labels
}

/**
 * May this snapshot be opened? Answers its parent.
 * @throws {Fault} `already-exists` when the key is taken, or the target that its label names is there; `not-found` without
 *   the parent; `invalid-argument` when the parent is not committed
 */
export function checkOpening({ key, parent, labels }: Opening, find: Find): Committed | undefined {
  checkLabels(labels)
  const target = targetOf(labels)
  if (target && find(target)) throw new Fault('already-exists', `target snapshot ${show(target)}: already exists`)
  if (find(key)) throw new Fault('already-exists', `snapshot ${show(key)}: already exists`)
  return parent === undefined ? undefined : parentOf(parent, find, 'invalid-argument')
}

/** The name that the target label asks for. */
export function targetOf(labels: Labels): Key | undefined {
  const target = labels[TARGET_LABEL]
  return target === undefined || target === '' ? undefined : parseKey(target, 'name')
}

/** The labels that a driver may know. */
export function driverLabels(labels: Labels): Labels {
  const meant = Object.entries(labels).filter(([key]) => key === TARGET_LABEL || key.startsWith(DRIVER_PREFIX))
  return Object.fromEntries(meant)
}

export function open({ kind, key, parent, labels }: Opening, id: number, now: number): Open {
  return { kind, id, key, parent, labels: withoutEmpty(labels), createdAt: now, updatedAt: now }
}

export interface Committing {
  readonly key: Key
  readonly name: Key
  /** Takes effect only when the snapshot has no parent. */
  readonly parent: Key | undefined
  /** All the labels it will have: those of the key are let go. */
  readonly labels: Labels
}

/**
 * May this snapshot be committed? Answers it.
 * @throws {Fault} `already-exists` when the name is taken; `not-found` without the snapshot or the parent;
 *   `failed-precondition` when it is not active, or the parent not committed
 */
export function checkCommitting({ key, name, parent, labels }: Committing, find: Find): Open {
  checkLabels(labels)
  if (find(name)) throw new Fault('already-exists', `snapshot ${show(name)}: already exists`)
  const snapshot = existing(key, find)
  if (snapshot.kind !== 'active')
    throw new Fault(
      'failed-precondition',
      `failed to commit snapshot: snapshot ${show(key)} is not active: it is ${described(snapshot)}`,
    )
  if (parent !== undefined && snapshot.parent === undefined) parentOf(parent, find, 'failed-precondition')
  return snapshot
}

export function commit(
  from: Open,
  { name, parent, labels }: Committing,
  made: { usage: Usage; now: number },
): Committed {
  return {
    kind: 'committed',
    id: from.id,
    key: name,
    parent: from.parent ?? parent,
    labels: withoutEmpty(labels),
    createdAt: made.now,
    updatedAt: made.now,
    usage: made.usage,
  }
}

/** @throws {Fault} `not-found` */
export function existing(key: Key, find: Find): Snapshot {
  const snapshot = find(key)
  if (!snapshot) throw new Fault('not-found', `snapshot ${key} does not exist: not found`)
  return snapshot
}

/** @throws {Fault} `not-found`; `failed-precondition` when it is committed: there is nothing to mount but through a child */
export function mountable(key: Key, find: Find): Open {
  const snapshot = existing(key, find)
  if (snapshot.kind === 'committed')
    throw new Fault('failed-precondition', `requested snapshot ${key} not active or view: it is ${described(snapshot)}`)
  return snapshot
}

/** @throws {Fault} `not-found`; `failed-precondition` while others stand on it */
export function removable(key: Key, find: Find, hasChildren: (snapshot: Snapshot) => boolean): Snapshot {
  const snapshot = existing(key, find)
  if (hasChildren(snapshot)) throw new Fault('failed-precondition', 'cannot remove snapshot with child')
  return snapshot
}

/**
 * Labels are all that can be changed; without a mask they are replaced.
 * @throws {Fault} `invalid-argument` for another path, or labels that are too big
 */
export function relabel(
  snapshot: Snapshot,
  labels: Labels,
  change: { paths: readonly string[]; now: number },
): Snapshot {
  const paths = parseMask(change.paths.length === 0 ? ['labels'] : change.paths, {
    plain: ['labels'],
    maps: ['labels'],
  })
  const updated = paths.reduce<Labels>((current, path) => updateMap(current, labels, path), snapshot.labels)
  checkLabels(updated)
  return { ...snapshot, labels: withoutEmpty(updated), updatedAt: change.now }
}

function parentOf(key: Key, find: Find, otherwise: 'invalid-argument' | 'failed-precondition'): Committed {
  const parent = find(key)
  if (!parent) throw new Fault('not-found', `parent snapshot ${key} does not exist: not found`)
  if (parent.kind !== 'committed')
    throw new Fault(
      otherwise,
      `failed to create snapshot: parent ${show(key)} is not committed snapshot: it is ${described(parent)}`,
    )
  return parent
}

function described(snapshot: Snapshot): string {
  return snapshot.kind === 'view' ? 'a view' : snapshot.kind
}

function show(key: Key): string {
  return JSON.stringify(key)
}
