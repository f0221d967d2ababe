import { isBare, type Node, nodeOf, type ThingName } from '@gantry/service/collection'
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

/** A thing that says something, and what its labels say, read once. */
interface Told {
  readonly node: Node
  readonly labels: LabelReferences
}

/**
 * All that is known, by the place of a thing in the index. Lists in place of an object for each thing: of the half a million
 * that may be there most say nothing, and to keep objects of all takes V8 a third of the time.
 */
interface Things {
  readonly places: Index
  /** Those that say nothing are missing. */
  readonly told: (Told | undefined)[]
  readonly sizes: number[]
  readonly marked: (Depth | undefined)[]
  /** How it came to be marked, and by whom; nobody holds a root. */
  readonly how: (string | undefined)[]
  readonly from: number[]
}

interface Edge {
  readonly to: Reference
  readonly depth: Depth
  readonly how: string
}

const NOBODY = -1
const NONE: readonly number[] = []
const HELD = 'held by the lease'
const CHANGED = 'changed during the collection'
const STEP = 2000 // things visited between two turns of others

/** @param nowMs milliseconds since 1970: what has expired by then is no root */
export function createMarking(nowMs: number): Marking {
  const things: Things = { places: createIndex(), told: [], sizes: [], marked: [], how: [], from: [] }
  const { places, told, marked } = things
  const back = createBackEdges()
  const queue: number[] = []
  let fresh = true
  let next: number | undefined

  function put(node: Node): number {
    const place = places.add(node.thing.namespace, node.thing)
    const one = isSilent(node) ? undefined : { node, labels: referencesOf(node.labels) }
    if (place === told.length) enroll(things)
    told[place] = one
    things.sizes[place] = Number(node.size)
    if (one) back.add(place, one)
    return place
  }

  function mark(place: number, depth: Depth, how: string, from = NOBODY): void {
    if (marked[place] === depth || marked[place] === 'full') return
    marked[place] = depth
    things.how[place] = how
    things.from[place] = from
    queue.push(place)
  }

  function follow(place: number): void {
    const one = told[place]
    if (one)
      for (const { depth, how, to } of edgesOf(one, marked[place] ?? 'full')) {
        const found = places.get(one.node.thing.namespace, to)
        if (found !== undefined) mark(found, depth, how, place)
      }
    if (marked[place] !== 'full') return
    for (const child of back.of(place, places))
      mark(child, 'full', one?.node.thing.kind === 'leases' ? HELD : 'back reference', place)
    for (const found of one ? conditionals(one, nowMs, things) : []) mark(found, 'full', 'conditional reference', place)
  }

  function markRoot(one: Told, place: number): void {
    const root = rootOf(one)
    if (!root || root.untilMs <= nowMs) return
    if (root.untilMs < (next ?? Number.POSITIVE_INFINITY)) next = root.untilMs
    mark(place, 'full', root.how)
  }

  const find = (thing: ThingName): number | undefined => places.get(thing.namespace, thing)

  return {
    add: (node) => void put(node),
    *run() {
      for (let place = 0; fresh && place < places.size(); place++) {
        const one = told[place]
        if (one) markRoot(one, place)
        if (place % STEP === 0) yield
      }
      fresh = false
      let steps = 0
      for (let place = queue.pop(); place !== undefined; place = queue.pop()) {
        follow(place)
        if (++steps % STEP === 0) yield
      }
    },
    touch(node) {
      const place = put(node)
      marked[place] = 'full'
      things.how[place] ??= node.root || CHANGED
      queue.push(place)
    },
    isMarked: (thing) => marked[find(thing) ?? NOBODY] !== undefined,
    unmarked: () => inOrder(things),
    *all() {
      for (let place = 0; place < places.size(); place++) yield nodeAt(place, things)
    },
    chain: (thing) => chainTo(find(thing), things),
    reach: (thing) => reachFrom(find(thing), things),
    isTouched: (thing) => chainTo(find(thing), things)[0]?.how === CHANGED,
    nextExpiry: () => next,
  }
}

/** Who is held without a word of it by the one who holds: that one may not be there, or come later. */
function createBackEdges() {
  const holders = createIndex()
  const held: number[][] = []
  return {
    add(place: number, { node: { thing, heldBy }, labels }: Told): void {
      for (const by of [labels.brefs, heldBy])
        for (const holder of by) {
          const at = holders.add(thing.namespace, holder)
          held[at] ??= []
          held[at].push(place)
        }
    },
    of(place: number, places: Index): readonly number[] {
      if (held.length === 0) return NONE
      const thing = places.name(place)
      return held[holders.get(thing.namespace, thing) ?? NOBODY] ?? NONE
    },
  }
}

/** Makes all lists longer by one: with a gap V8 would make them slow. */
function enroll({ told, sizes, marked, how, from }: Things): void {
  told.push(undefined)
  sizes.push(0)
  marked.push(undefined)
  how.push(undefined)
  from.push(NOBODY)
}

/** It is no root, whatever else is there, and leads nowhere. */
function isSilent(node: Node): boolean {
  const { kind } = node.thing
  return isBare(node) && (kind === 'content' || kind.startsWith('snapshots/'))
}

function nodeAt(place: number, { places, told, sizes }: Things): Node {
  return told[place]?.node ?? nodeOf(places.name(place), { labels: {}, size: BigInt(sizes[place] ?? 0) })
}

/** What it refers to while a condition holds. */
function conditionals({ node, labels }: Told, nowMs: number, { places, told }: Things): number[] {
  return labels.conds.flatMap((cond) => {
    const found = places.get(node.thing.namespace, cond)
    if (found === undefined) return []
    const usedAt = usedAtOf(told[found]?.node.labels ?? {})
    return cond.holds(usedAt === undefined ? undefined : nowMs - usedAt) ? [found] : []
  })
}

/** Why a thing stays by itself, and until when. */
function rootOf({ node, labels: said }: Told): { how: string; untilMs: number } | undefined {
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

function edgesOf({ node: { thing, labels, refs }, labels: said }: Told, depth: Depth): Edge[] {
  if (thing.kind === 'leases') {
    const held = isFlat(labels) ? 'flat' : 'full'
    return refs.map((to) => ({ to, depth: held, how: HELD }))
  }
  const edges = refs.map((to): Edge => ({ to, depth, how: howOf(thing.kind) }))
  if (depth === 'full') for (const to of said.refs) edges.push({ to, depth, how: 'label' })
  return edges
}

function howOf(kind: string): string {
  if (kind === 'images') return 'target of the image'
  if (kind === 'containers') return 'rootfs of the container'
  return kind.startsWith('snapshots/') ? 'parent' : 'needed by it'
}

function chainTo(last: number | undefined, { places, how, from }: Things): Link[] {
  const links: Link[] = []
  for (let place = last ?? NOBODY; how[place] !== undefined; place = from[place] ?? NOBODY)
    links.unshift({ thing: places.name(place), how: how[place] ?? '' })
  return links
}

function reachFrom(start: number | undefined, things: Things): Node[] {
  const found = new Set<number>()
  const next = start === undefined ? [] : [start]
  for (let place = next.pop(); place !== undefined; place = next.pop()) {
    if (found.has(place)) continue
    found.add(place)
    next.push(...below(place, things))
  }
  return Array.from(found, (place) => nodeAt(place, things))
}

/** What is not marked, so that a part from the front leaves nothing that refers to what is gone. */
function inOrder(things: Things): Node[] {
  const { places, marked } = things
  const done = new Set<number>()
  const last: Node[] = []
  for (let start = 0; start < places.size(); start++) {
    if (marked[start] || done.has(start)) continue
    const stack: { place: number; left: number[] }[] = []
    const enter = (place: number): void => {
      done.add(place)
      stack.push({ place, left: below(place, things) })
    }
    enter(start)
    for (let top = stack.at(-1); top; top = stack.at(-1)) {
      const child = top.left.pop()
      if (child === undefined) last.push(...stack.splice(-1).map(({ place }) => nodeAt(place, things)))
      else if (!marked[child] && !done.has(child)) enter(child)
    }
  }
  return last.reverse()
}

function below(place: number, { places, told }: Things): number[] {
  const one = told[place]
  if (!one) return []
  return edgesOf(one, 'full').flatMap(({ to }) => places.get(one.node.thing.namespace, to) ?? [])
}
