import { setImmediate as breathe } from 'node:timers/promises'
import type { MessageInitShape } from '@bufbuild/protobuf'
import type { Collection, Node as NodeMessage, NodeSchema } from '@gantry/api/gantry/collection/v1/collection_pb'
import { Fault } from '@gantry/model/fault'
import type { Client } from '@gantry/rpc/client'
import type { Implementation } from '@gantry/rpc/service'
import type { Barrier, Counts, ThingName } from './barrier.ts'

const BATCH = 500 // nodes a message, and between two breaths
const RESUME_MS = 600_000 // as long as it may take to delete what was swept

export type { Counts, ThingName } from './barrier.ts'

type NodeInit = Omit<MessageInitShape<typeof NodeSchema>, '$typeName' | '$unknown'>

/** Something that is kept, and what it refers to. */
export interface Node {
  readonly thing: ThingName
  /** Only those that begin with `containerd.io/gc.`. */
  readonly labels: Readonly<Record<string, string>>
  /** What it holds by itself, in its own namespace. */
  readonly refs: readonly { readonly kind: string; readonly id: string }[]
  /** Why it stays although nothing refers to it; empty when it does not. */
  readonly root: string
  /** When `root` ends, in milliseconds since 1970; 0 is never. */
  readonly rootUntilMs: number
  /** Bytes on disk as far as they are known. */
  readonly size: bigint
  /** Who holds it without a word of it in their own records, in its own namespace. */
  readonly heldBy: readonly { readonly kind: string; readonly id: string }[]
}

/** One owner, as the collection sees it: here or behind a socket. */
export interface Party {
  /** All that is kept, while changes are noted from now on. */
  scan(token: string, signal: AbortSignal): AsyncIterable<readonly Node[]>
  /** No name comes or goes for `holdMs` at most. Answers what has changed since the scan began. */
  pause(token: string, holdMs: number, signal: AbortSignal): Promise<Node[]>
  /** Takes names away, and answers how many. @throws {Fault} `failed-precondition` when it is too late for that */
  sweep(token: string, things: readonly ThingName[], signal: AbortSignal): Promise<number>
  /** Names come and go again at once. Without `more` that is the end; resolves when the bytes of what was swept are gone. */
  resume(token: string, more: boolean, signal: AbortSignal): Promise<void>
  counts(signal: AbortSignal): AsyncIterable<Counts>
}

/** What a process has to tell of its records so that they can be collected. */
export interface Keeper {
  nodes(): Iterable<Node>
  /** As it is now; undefined when it is gone. */
  node(thing: ThingName): Node | undefined
  /** What is in use in a way that no record tells; asked when names are held. */
  inUse(): ThingName[]
  /** Takes names away in one transaction, but for those that must stay. Answers how many. */
  sweep(things: readonly ThingName[]): Promise<number>
  /** Deletes bytes that have lost their name. */
  clean(): Promise<void>
}

/** A node with nothing but its name and what is given. */
export function nodeOf(thing: ThingName, rest: Partial<Omit<Node, 'thing' | 'labels'>> & Pick<Node, 'labels'>): Node {
  const { refs = [], root = '', rootUntilMs = 0, size = 0n, heldBy = [] } = rest
  const labels: Record<string, string> = {}
  for (const key in rest.labels) if (key.startsWith('containerd.io/gc.')) labels[key] = rest.labels[key] ?? ''
  return { thing, labels, refs, root, rootUntilMs, size, heldBy }
}

/** The owner that runs in this process. */
export function localParty(barrier: Barrier, keeper: Keeper): Party {
  return {
    async *scan(token, signal) {
      await barrier.begin(token)
      for (const nodes of batched(keeper.nodes())) {
        await breathe()
        signal.throwIfAborted()
        yield nodes
      }
    },
    async pause(token, holdMs) {
      const touched = await barrier.pause(token, holdMs)
      const now = (thing: ThingName): Node[] => [keeper.node(thing)].filter((node) => node !== undefined)
      const used = keeper.inUse().flatMap(now)
      return [...touched.flatMap(now), ...used.map((node) => ({ ...node, root: node.root || 'in use' }))]
    },
    async sweep(token, things) {
      barrier.checkSweep(token)
      return await keeper.sweep(things.filter((thing) => !barrier.isTouched(thing)))
    },
    async resume(token, more) {
      barrier.resume(token, more)
      if (!more) await keeper.clean()
    },
    counts: barrier.counts,
  }
}

/** The owner behind a socket. */
export function remoteParty(client: Client<typeof Collection>): Party {
  return {
    async *scan(token, signal) {
      const word = createWords()
      for await (const { nodes } of client.scan({ token }, { signal })) yield nodes.map((node) => fromWire(node, word))
    },
    async pause(token, holdMs, signal) {
      const touched: Node[] = []
      const word = createWords()
      for await (const { nodes } of client.pause({ token, holdMs }, { signal, timeoutMs: holdMs }))
        touched.push(...nodes.map((node) => fromWire(node, word)))
      return touched
    },
    sweep: async (token, things, signal) => (await client.sweep({ token, things: [...things] }, { signal })).removed,
    async resume(token, more, signal) {
      await client.resume({ token, more }, { signal, timeoutMs: RESUME_MS })
    },
    async *counts(signal) {
      for await (const { deletions, mutations } of client.watch({}, { signal }))
        yield { deletions: Number(deletions), mutations: Number(mutations) }
    },
  }
}

/** gantry.collection.v1.Collection */
export function collectionService(party: Party): Implementation<typeof Collection> {
  return {
    async *scan({ token }, { signal }) {
      for await (const nodes of party.scan(parseToken(token), signal)) yield { nodes: nodes.map(toWire) }
    },
    async *pause({ token, holdMs }, { signal }) {
      for (const nodes of batched(await party.pause(parseToken(token), holdMs, signal)))
        yield { nodes: nodes.map(toWire) }
    },
    sweep: async ({ token, things }, { signal }) => ({ removed: await party.sweep(token, things, signal) }),
    async resume({ token, more }, { signal }) {
      await party.resume(token, more, signal)
      return {}
    },
    async *watch(_, { signal }) {
      for await (const { deletions, mutations } of party.counts(signal))
        yield { deletions: BigInt(deletions), mutations: BigInt(mutations) }
    },
  }
}

function parseToken(token: string): string {
  if (token === '') throw new Fault('invalid-argument', 'Cannot collect without a token')
  return token
}

function toWire({ refs, heldBy, rootUntilMs, labels, ...node }: Node): NodeInit {
  return { ...node, labels: { ...labels }, refs: [...refs], heldBy: [...heldBy], rootUntilMs: BigInt(rootUntilMs) }
}

const NO_LABELS: Node['labels'] = {}
const NO_REFERENCES: Node['refs'] = []

/** There may be half a million of them in memory, most without labels: what says nothing is shared. */
function fromWire({ thing, labels, refs, root, rootUntilMs, size, heldBy }: NodeMessage, word: Words): Node {
  const { namespace = '', kind = '', id = '' } = thing ?? {}
  return {
    thing: { namespace: word(namespace), kind: word(kind), id },
    labels: isEmpty(labels) ? NO_LABELS : labels,
    refs: referencesFrom(refs, word),
    root: word(root),
    rootUntilMs: Number(rootUntilMs),
    size,
    heldBy: referencesFrom(heldBy, word),
  }
}

function referencesFrom(references: NodeMessage['refs'], word: Words): Node['refs'] {
  return references.length === 0 ? NO_REFERENCES : references.map(({ kind, id }) => ({ kind: word(kind), id }))
}

/** The same text as before, where there was one: only a few occur, again and again. */
type Words = (text: string) => string

function createWords(): Words {
  const words = new Map<string, string>()
  return (text) => {
    const known = words.get(text)
    if (known === undefined) words.set(text, text)
    return known ?? text
  }
}

function isEmpty(labels: Node['labels']): boolean {
  for (const _ in labels) return false
  return true
}

function* batched(nodes: Iterable<Node>): Generator<Node[]> {
  let batch: Node[] = []
  for (const node of nodes) {
    batch.push(node)
    if (batch.length < BATCH) continue
    yield batch
    batch = []
  }
  if (batch.length > 0) yield batch
}
