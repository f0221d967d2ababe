import { randomUUID } from 'node:crypto'
import { setImmediate as breathe } from 'node:timers/promises'
import { Fault } from '@gantry/model/fault'
import type { Node, Party, ThingName } from '@gantry/service/collection'
import { createMarking, type Marking } from './mark.ts'

const HOLD_MS = 4000 // how long owners keep names still when nobody tells them to go on
const DELETE_MS = 600_000 // how long the end waits for bytes to be deleted
const LAST_WORDS_MS = 500 // how long owners are told to go on when we stop: the others may be gone already, and stay so
const SWEEP = 250 // things that go in the first pause: writers wait for it, so how many the next one takes is up to this one
const LONG_MS = 120 // a pause that lasted longer makes the next one smaller, one of less than half of it larger: each costs some syncs
const MIN_SWEEP = 50
const MAX_SWEEP = 4000

/** The processes that keep things, by name. `metadata` is this one. */
export type Parties = Readonly<Record<'metadata' | 'content' | 'snapshots', Party>>

export interface Collected {
  readonly marking: Marking
  /** How many things lost their name. */
  readonly removed: number
  /** How many stay only because they changed meanwhile. */
  readonly left: number
  /** Until everybody could go on, in ms. */
  readonly tookMs: number
  /** The longest time that writers had to wait, in ms. */
  readonly pausedMs: number
}

/**
 * Removes what nothing refers to, in all namespaces:
 *
 *   scan all, noting what changes --> mark --> (pause all --> mark what changed --> sweep --> go on) --> bytes go
 *
 * Scan and mark take their time while everybody goes on working. Only the last part stops writers: what was touched since
 * the scan began stays, with all it refers to, so what is neither marked nor touched then cannot be reached by anybody.
 * What refers goes before what it refers to, so a crash anywhere leaves only things that the next collection finds.
 * Each owner lets go by itself when the pause lasts too long, and refuses to sweep in its second half: by then it cannot
 * know that the others still keep still. One that was killed meanwhile knows of no pause: all are asked right before
 * anything goes, and a process takes longer to start than that request to arrive.
 *
 * @throws {Fault} `unavailable` when an owner cannot be asked, `aborted` when the pause took too long; nothing is lost then
 */
export async function collect(parties: Parties, nowMs: number, signal: AbortSignal): Promise<Collected> {
  const token = randomUUID()
  const begun = performance.now()
  let removed = 0
  let pausedMs = 0
  let left = 0
  try {
    const marking = await scan(parties, { token, nowMs }, signal)
    const dead = marking.unmarked()
    let count = SWEEP
    for (let at = 0; at < dead.length; ) {
      const from = performance.now()
      await pauseAll(parties, { token, marking }, signal)
      const part = dead.slice(at, at + count)
      const things = part.filter(({ thing }) => !marking.isMarked(thing))
      const gone = await sweep(parties, { token, things }, signal)
      removed += gone
      left += things.length - gone + part.filter(({ thing }) => marking.isTouched(thing)).length
      at += count
      if (at < dead.length) await goOn(parties, { token, more: true }, signal)
      const lastedMs = performance.now() - from
      pausedMs = Math.max(pausedMs, lastedMs)
      count = nextCount(count, lastedMs)
    }
    return { marking, removed, left, pausedMs, tookMs: performance.now() - begun }
  } finally {
    await goOn(parties, { token, more: false }, signal)
  }
}

function nextCount(count: number, lastedMs: number): number {
  if (lastedMs > LONG_MS) return Math.max(MIN_SWEEP, Math.floor(count / 2))
  return lastedMs < LONG_MS / 2 ? Math.min(MAX_SWEEP, count * 2) : count
}

/** Marks everything as it is, and changes nothing. */
export async function survey(parties: Parties, nowMs: number, signal: AbortSignal): Promise<Marking> {
  const token = randomUUID()
  try {
    return await scan(parties, { token, nowMs }, signal)
  } finally {
    await goOn(parties, { token, more: false }, signal)
  }
}

/** Lets names come and go again; an owner that cannot be told does so by itself, so nobody waits for it when `stop` says so. */
async function goOn(
  parties: Parties,
  { token, more }: { token: string; more: boolean },
  stop: AbortSignal,
): Promise<void> {
  const enough = new AbortController()
  const soon = (): void => void setTimeout(() => enough.abort(), LAST_WORDS_MS).unref()
  if (stop.aborted) soon()
  else stop.addEventListener('abort', soon, { once: true })
  const signal = AbortSignal.any([enough.signal, AbortSignal.timeout(more ? HOLD_MS : DELETE_MS)])
  await Promise.allSettled(Object.values(parties).map((party) => party.resume(token, more, signal)))
  stop.removeEventListener('abort', soon)
}

async function scan(
  parties: Parties,
  { token, nowMs }: { token: string; nowMs: number },
  signal: AbortSignal,
): Promise<Marking> {
  const marking = createMarking(nowMs)
  const scans = Object.values(parties).map(async (party) => {
    for await (const nodes of party.scan(token, signal)) for (const node of nodes) marking.add(node)
  })
  await settled(scans)
  for (const _ of marking.run()) await breathe()
  return marking
}

async function pauseAll(
  parties: Parties,
  { token, marking }: { token: string; marking: Marking },
  signal: AbortSignal,
): Promise<void> {
  const from = performance.now()
  const touched = await settled(Object.values(parties).map((party) => party.pause(token, HOLD_MS, signal)))
  if (performance.now() - from >= HOLD_MS / 2)
    throw new Fault('aborted', 'Cannot collect now: it took too long until all owners kept still')
  for (const nodes of touched) for (const node of nodes) marking.touch(node)
  for (const _ of marking.run());
}

/** What refers first: leases and images, then blobs, then snapshots. */
async function sweep(
  parties: Parties,
  { token, things }: { token: string; things: readonly Node[] },
  signal: AbortSignal,
): Promise<number> {
  let removed = 0
  await settled(Object.values(parties).map((party) => party.sweep(token, [], signal)))
  for (const [name, party] of Object.entries(parties)) {
    const its = things.map(({ thing }) => thing).filter(({ kind }) => keeperOf(kind) === name)
    if (its.length > 0) removed += await party.sweep(token, its, signal)
  }
  return removed
}

/** Which process keeps things of a kind. */
function keeperOf(kind: ThingName['kind']): keyof Parties {
  if (kind === 'content' || kind === 'ingests' || kind === 'streams') return 'content'
  if (kind.startsWith('snapshots/') || kind === 'mounts') return 'snapshots'
  return 'metadata'
}

/** Waits for all, also when one fails: nothing goes on behind our back. */
async function settled<T>(work: readonly Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(work)
  return Promise.all(work)
}
