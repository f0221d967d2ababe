import type { Collector as CollectorDesc } from '@gantry/api/gantry/collection/v1/collection_pb'
import { Fault } from '@gantry/model/fault'
import type { Implementation } from '@gantry/rpc/service'
import type { Node, ThingName } from '@gantry/service/collection'
import { referencesOf } from './labels.ts'
import type { Marking } from './mark.ts'
import { isUnmeasured, type Sizes } from './measure.ts'
import type { Collector } from './schedule.ts'

const BATCH = 200 // things a message
const MIN_DIGEST = 4 // characters of a digest that are taken for the beginning of one

/**
 * gantry.collection.v1.Collector
 * @param measure tells what open snapshots take by now
 */
export function collectorService(
  collector: Collector,
  measure: (nodes: Iterable<Node>, signal: AbortSignal) => Promise<Sizes>,
): Implementation<typeof CollectorDesc> {
  return {
    async *collect({ dryRun }, { signal }) {
      const marking = await collector.survey(signal)
      const garbage = garbageOf(marking)
      if (!dryRun) await collector.run(signal)
      for (let at = 0; at < garbage.length; at += BATCH) yield { garbage: garbage.slice(at, at + BATCH) }
    },

    async why({ id }, { signal }) {
      const marking = await collector.survey(signal)
      const things = find(marking, id)
      if (things.length === 0) throw new Fault('not-found', `${JSON.stringify(id)}: there is nothing of that name`)
      return { chains: things.map((thing) => ({ thing, links: marking.chain(thing) })) }
    },

    async usage(_, { signal }) {
      const marking = await collector.survey(signal)
      return { uses: usesOf(marking, await measure(marking.all(), signal)) }
    },
  }
}

interface Garbage {
  readonly thing: ThingName
  readonly size: bigint
  readonly why: string
}

/** What would go, in the order in which it goes. */
function garbageOf(marking: Marking): Garbage[] {
  const holders = new Map<string, ThingName>()
  const dead = marking.unmarked()
  for (const { thing, labels, refs } of dead)
    for (const { kind, id } of [...refs, ...referencesOf(labels).refs])
      holders.set(textOf({ ...thing, kind, id }), thing)
  return dead.map(({ thing, size }) => ({ thing, size, why: whyOf(thing, holders.get(textOf(thing))) }))
}

function whyOf({ kind }: ThingName, holder: ThingName | undefined): string {
  if (holder) return `only ${holder.kind} ${holder.id} refers to it, which goes, too`
  if (kind === 'images' || kind === 'leases') return 'it has expired'
  return kind === 'ingests' ? 'nobody goes on with it' : 'nothing refers to it'
}

/** Things of that very name; else blobs and snapshots whose digest begins so, with or without its algorithm. */
function find(marking: Marking, id: string): ThingName[] {
  const all = Array.from(marking.all(), ({ thing }) => thing)
  const exact = all.filter((thing) => thing.id === id)
  if (exact.length > 0) return exact
  const hex = id.replace(/^sha(256|384|512):/, '')
  if (!/^[a-f0-9]+$/.test(hex) || hex.length < MIN_DIGEST) return []
  const begun = all.filter((thing) => /^sha\d+:/.test(thing.id) && thing.id.replace(/^sha\d+:/, '').startsWith(hex))
  if (new Set(begun.map((thing) => thing.id)).size > 1)
    throw new Fault('invalid-argument', `${JSON.stringify(id)} may be several: give more of it`)
  return begun
}

interface Use {
  readonly thing: ThingName
  contentBytes: bigint
  snapshotBytes: bigint
  readonly isOrphan: boolean
  unmeasured: number
}

function usesOf(marking: Marking, sizes: Sizes): Use[] {
  const namespaces = new Map<string, Use>()
  const rest: Use[] = []
  const add = (use: Use, node: Node): void => {
    const { thing, size } = node
    if (!thing.kind.startsWith('snapshots/')) use.contentBytes += size
    else use.snapshotBytes += sizes.get(node) ?? size
    if (isUnmeasured(node) && !sizes.has(node)) use.unmeasured++
  }
  for (const node of marking.all()) {
    const { namespace, kind } = node.thing
    const whole = namespaces.get(namespace) ?? emptyUse({ namespace, kind: 'namespaces', id: namespace }, false)
    namespaces.set(namespace, whole)
    add(whole, node)
    const use = emptyUse(node.thing, !marking.isMarked(node.thing))
    if (kind === 'images') for (const each of marking.reach(node.thing)) add(use, each)
    else if (kind.startsWith('snapshots/') || use.isOrphan) add(use, node)
    else continue
    rest.push(use)
  }
  return [...namespaces.values(), ...rest]
}

function emptyUse(thing: ThingName, isOrphan: boolean): Use {
  return { thing, contentBytes: 0n, snapshotBytes: 0n, isOrphan, unmeasured: 0 }
}

function textOf({ namespace, kind, id }: ThingName): string {
  return `${namespace}\0${kind}\0${id}`
}
