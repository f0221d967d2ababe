import type { Node, ThingName } from '@gantry/service/collection'
import {
  expiryOf,
  isFlat,
  isLabelledRoot,
  type LabelReferences,
  type Reference,
  referencesOf,
  usedAtOf,
} from './labels.ts'
import { createIndex, type Index } from './thing-index.ts'

/**
 * Finds out what has to stay. Pure: a graph and a time in, marks out.
 *
 *   roots --refs, labels, back references--> what they hold --> ... ; all the others may go
 *
 * A flat lease holds what it names and the layers below, without what labels refer to. Something that is held in both
 * ways is held fully.
 */
export interface Marking {
  /** Adds what is kept. Before the first `run`. */
  add(node: Node): void
  /** A step at a time, so that others get a turn between two. */
  run(): Iterable<void>
  /** What has changed since it was added stays, with all it refers to now, until the next collection. Then `run` again. */
  touch(node: Node): void
  isMarked(thing: ThingName): boolean
  /** Does it stay only because something has changed? */
  isTouched(thing: ThingName): boolean
  /** What refers comes before what it refers to. */
  unmarked(): Node[]
  all(): Iterable<Node>
  /** From the root to the thing; empty when it is not marked. */
  chain(thing: ThingName): Link[]
  /** The thing and all that it leads to. */
  reach(thing: ThingName): Node[]
  /** When the next root stops being one, in milliseconds since 1970. */
  nextExpiry(): number | undefined
}

/** How a thing is held: as a root, or by the link before it. */
export interface Link {
  readonly thing: ThingName
  readonly how: string
}

type Depth = 'flat' | 'full'

interface Entry {
  node: Node
  /** What its labels say, read once. */
  labels: LabelReferences
  marked: Depth | undefined
  /** How it came to be marked, and by whom; nobody holds a root. */
  how: string | undefined
  from: Entry | undefined
}

interface Edge {
  readonly to: Reference
  readonly depth: Depth
  readonly how: string
}

const HELD = 'held by the lease'
const CHANGED = 'changed during the collection'
const STEP = 2000 // entries visited between two turns of others

/** @param nowMs milliseconds since 1970: what has expired by then is no root */
export function createMarking(nowMs: number): Marking {
  const entries = createIndex<Entry>()
  const backEdges = createIndex<Entry[]>()
  const queue: Entry[] = []
  let fresh = true
  let next: number | undefined

  function put(node: Node): Entry {
    const labels = referencesOf(node.labels)
    const { namespace, kind, id } = node.thing
    const entry = entries.add(namespace, { kind, id }, () => newEntry(node, labels))
    entry.node = node
    entry.labels = labels
    for (const holders of [labels.brefs, node.heldBy])
      for (const holder of holders) backEdges.add(namespace, holder, () => []).push(entry)
    return entry
  }

  function mark(entry: Entry, depth: Depth, how: string, from?: Entry): void {
    if (entry.marked === depth || entry.marked === 'full') return
    entry.marked = depth
    entry.how = how
    entry.from = from
    queue.push(entry)
  }

  function follow(entry: Entry): void {
    const { thing } = entry.node
    const { namespace } = thing
    for (const { depth, how, to } of edgesOf(entry, entry.marked ?? 'full')) {
      const found = entries.get(namespace, to)
      if (found) mark(found, depth, how, entry)
    }
    if (entry.marked !== 'full') return
    for (const child of backEdges.get(namespace, thing) ?? [])
      mark(child, 'full', isLease(entry) ? HELD : 'back reference', entry)
    for (const cond of entry.labels.conds) {
      const found = entries.get(namespace, cond)
      const usedAt = found && usedAtOf(found.node.labels)
      if (found && cond.holds(usedAt === undefined ? undefined : nowMs - usedAt))
        mark(found, 'full', 'conditional reference', entry)
    }
  }

  function markRoot(entry: Entry): void {
    const root = rootOf(entry)
    if (!root || root.untilMs <= nowMs) return
    if (root.untilMs < (next ?? Number.POSITIVE_INFINITY)) next = root.untilMs
    mark(entry, 'full', root.how)
  }

  const find = (thing: ThingName): Entry | undefined => entries.get(thing.namespace, thing)

  return {
    add: put,
    *run() {
      let steps = 0
      for (const entry of fresh ? entries.values() : []) {
        markRoot(entry)
        if (++steps % STEP === 0) yield
      }
      fresh = false
      for (let entry = queue.pop(); entry; entry = queue.pop()) {
        follow(entry)
        if (++steps % STEP === 0) yield
      }
    },
    touch(node) {
      const entry = put(node)
      entry.marked = 'full'
      entry.how ??= node.root || CHANGED
      queue.push(entry)
    },
    isMarked: (thing) => find(thing)?.marked !== undefined,
    unmarked: () => inOrder(entries),
    *all() {
      for (const { node } of entries.values()) yield node
    },
    chain: (thing) => chainTo(find(thing)),
    reach: (thing) => reachFrom(find(thing), entries),
    isTouched: (thing) => chainTo(find(thing))[0]?.how === CHANGED,
    nextExpiry: () => next,
  }
}

function newEntry(node: Node, labels: LabelReferences): Entry {
  return { node, labels, marked: undefined, how: undefined, from: undefined }
}

/** Why a thing stays by itself, and until when. */
function rootOf({ node, labels: said }: Entry): { how: string; untilMs: number } | undefined {
  const forever = Number.POSITIVE_INFINITY
  const { labels, root, rootUntilMs, heldBy } = node
  const { kind } = node.thing
  if (root !== '') return { how: root, untilMs: rootUntilMs === 0 ? forever : rootUntilMs }
  if (kind === 'leases' || kind === 'images') return { how: kind.slice(0, -1), untilMs: expiryOf(labels) ?? forever }
  if (kind === 'containers') return { how: 'container', untilMs: forever }
  if (kind === 'sandboxes') return { how: 'sandbox', untilMs: forever }
  const isHeld = heldBy.length + said.brefs.length > 0 // then it stays with those, and no longer
  if (kind === 'streams' && !isHeld) return { how: 'open stream', untilMs: forever }
  if (kind === 'mounts' && !isHeld) return { how: 'active mount', untilMs: forever }
  return isLabelledRoot(labels) ? { how: 'labelled gc.root', untilMs: forever } : undefined
}

function edgesOf({ node: { thing, labels, refs }, labels: said }: Entry, depth: Depth): Edge[] {
  if (thing.kind === 'leases') {
    const held = isFlat(labels) ? 'flat' : 'full'
    return refs.map((to) => ({ to, depth: held, how: HELD }))
  }
  const edges = refs.map((to): Edge => ({ to, depth, how: howOf(thing.kind) }))
  if (depth === 'full') for (const to of said.refs) edges.push({ to, depth, how: 'label' })
  return edges
}

function isLease({ node }: Entry): boolean {
  return node.thing.kind === 'leases'
}

function howOf(kind: string): string {
  if (kind === 'images') return 'target of the image'
  if (kind === 'containers') return 'rootfs of the container'
  return kind.startsWith('snapshots/') ? 'parent' : 'needed by it'
}

function chainTo(last: Entry | undefined): Link[] {
  const links: Link[] = []
  for (let entry = last; entry?.how !== undefined; entry = entry.from)
    links.unshift({ thing: entry.node.thing, how: entry.how })
  return links
}

function reachFrom(start: Entry | undefined, entries: Index<Entry>): Node[] {
  const found = new Set<Entry>()
  const next = start ? [start] : []
  for (let entry = next.pop(); entry; entry = next.pop()) {
    if (found.has(entry)) continue
    found.add(entry)
    next.push(...below(entry, entries))
  }
  return Array.from(found, ({ node }) => node)
}

/** What is not marked, so that a part from the front leaves nothing that refers to what is gone. */
function inOrder(entries: Index<Entry>): Node[] {
  const done = new Set<Entry>()
  const last: Node[] = []
  for (const start of entries.values()) {
    if (start.marked || done.has(start)) continue
    const stack: { entry: Entry; left: Entry[] }[] = []
    const enter = (entry: Entry): void => {
      done.add(entry)
      stack.push({ entry, left: below(entry, entries) })
    }
    enter(start)
    for (let top = stack.at(-1); top; top = stack.at(-1)) {
      const child = top.left.pop()
      if (child === undefined) last.push(...stack.splice(-1).map(({ entry }) => entry.node))
      else if (!child.marked && !done.has(child)) enter(child)
    }
  }
  return last.reverse()
}

function below(entry: Entry, entries: Index<Entry>): Entry[] {
  const { namespace } = entry.node.thing
  return edgesOf(entry, 'full').flatMap(({ to }) => entries.get(namespace, to) ?? [])
}
