import { setTimeout as sleep } from 'node:timers/promises'
import { Fault, isFault } from '@gantry/model/fault'
import type { Counts, Party } from '@gantry/service/collection'
import { type Collected, collect, type Parties, survey } from './collect.ts'
import type { Marking } from './mark.ts'
import type { CollectionWatch } from './watch.ts'

const MIN_AVERAGE_MS = 5
const REST = 4 // times as long as a collection took is none: with many records most of it is not a pause, but work
const RETRY_MS = [500, 1000, 2000, 5000, 10_000, 30_000] // after a collection that failed, before the next try
const MAX_TIMER_MS = 2 ** 31 - 1

/** When to collect; the names, meanings and defaults are containerd's (behaviour facts, 12). */
export interface Thresholds {
  /** The part of all time that writers may have to wait for collections. */
  readonly pause: number
  /** So many deletions bring on a collection after `delayMs`; 0 leaves them to the next turn. */
  readonly deletions: number
  /** So many changes make the next turn a collection, though nothing was deleted. */
  readonly mutations: number
  readonly delayMs: number
  /** Before the first one. */
  readonly startupMs: number
}

/** Collects by itself now and then, and when asked. One at a time. */
export interface Collector extends AsyncDisposable {
  /** A whole collection that begins after this call. @throws {Fault} as `collect` */
  run(signal: AbortSignal): Promise<Collected>
  /** The same for those who have deleted something and wait for what goes with it. @throws {Fault} `unknown`, as containerd */
  runAfterDelete(signal: AbortSignal): Promise<void>
  /** What is there and what keeps it, without a change. */
  survey(signal: AbortSignal): Promise<Marking>
}

/** The part of a log that is needed here. */
interface Log {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
}

interface CollectorParts {
  readonly parties: Parties
  readonly thresholds: Thresholds
  readonly log: Log
  readonly watch?: CollectionWatch
  /** Milliseconds since 1970. */
  readonly now: () => number
}

export function startCollector({ parties, thresholds, log, watch, now }: CollectorParts): Collector {
  const stop = new AbortController()
  const turns = createTurns()
  const pending = createPending(thresholds)
  let failures = 0
  let waiting: Promise<Collected> | undefined

  async function once(): Promise<Collected> {
    pending.begin()
    try {
      const collected = await collect(parties, now(), stop.signal)
      const { removed, left, tookMs, pausedMs } = collected
      failures = 0
      watch?.done(collected)
      pending.done({ tookMs, pausedMs, left }, (collected.marking.nextExpiry() ?? Number.POSITIVE_INFINITY) - now())
      if (removed > 0) log.info({ removed, left, tookMs, pausedMs }, 'Collected')
      return collected
    } catch (error) {
      watch?.failed()
      pending.failed(RETRY_MS[Math.min(failures++, RETRY_MS.length - 1)] ?? 0)
      throw error
    }
  }

  /** All who ask before it begins get the same one. */
  function next(): Promise<Collected> {
    waiting ??= turns.take(() => {
      waiting = undefined
      return once()
    })
    return waiting
  }

  async function loop(): Promise<void> {
    while (!stop.signal.aborted) {
      await pending.due(stop.signal)
      if (!stop.signal.aborted)
        await next().catch((error: unknown) => {
          if (stop.signal.aborted) return
          if (failures === 1 || !isFault(error)) log.warn({ err: error }, 'Nothing is collected now: tried again soon')
        })
    }
  }

  const running = [loop(), ...Object.values(parties).map((party) => listen(party, pending.add, stop.signal))]
  return {
    run: (signal) => Promise.race([next(), aborted(signal)]),
    async runAfterDelete(signal) {
      try {
        await Promise.race([next(), aborted(signal)])
      } catch (cause) {
        if (signal.aborted || !isFault(cause)) throw cause
        throw new Fault('unknown', `It is deleted, but what goes with it is not collected yet: ${cause.message}`, {
          cause,
        })
      }
    },
    survey: (signal) => turns.take(() => survey(parties, now(), AbortSignal.any([signal, stop.signal]))),
    async [Symbol.asyncDispose]() {
      stop.abort()
      await Promise.all(running)
      await turns.idle()
    },
  }
}

/** Hears from an owner how much has happened there, for ever. One that was away may have forgotten what it had to tell. */
async function listen(party: Party, add: (counts: Counts) => void, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    let known: Counts | undefined
    try {
      for await (const { deletions, mutations } of party.counts(signal)) {
        if (known) add({ deletions: deletions - known.deletions, mutations: mutations - known.mutations })
        else add({ deletions: 1, mutations: 0 })
        known = { deletions, mutations }
      }
    } catch {
      // away: it is asked again
    }
    await sleep(1000, undefined, { signal, ref: false }).catch(() => undefined)
  }
}

/** Remembers whether there is something to collect, and knows when its time has come. */
function createPending({ pause, startupMs, ...at }: Thresholds) {
  let counts: Counts = { deletions: 1, mutations: 0 } // of an earlier process
  let notBefore = performance.now() + startupMs
  let expiryAt = Number.POSITIVE_INFINITY
  let early = Number.POSITIVE_INFINITY
  let changed = Promise.withResolvers<void>()
  let total = { ms: 0, runs: 0 }

  const dueAt = (): number => {
    const wanted = counts.deletions > 0 || counts.mutations >= at.mutations
    return Math.min(wanted ? notBefore : Number.POSITIVE_INFINITY, early, Math.max(expiryAt, notBefore))
  }
  const change = (): void => {
    changed.resolve()
    changed = Promise.withResolvers()
  }
  return {
    add({ deletions, mutations }: Counts) {
      const before = dueAt()
      counts = { deletions: counts.deletions + deletions, mutations: counts.mutations + mutations }
      if (at.deletions > 0 && counts.deletions >= at.deletions) early = Math.min(early, performance.now() + at.delayMs)
      if (dueAt() !== before) change()
    },
    begin() {
      counts = { deletions: 0, mutations: 0 }
      early = expiryAt = Number.POSITIVE_INFINITY
    },
    done({ tookMs, pausedMs, left }: Pick<Collected, 'tookMs' | 'pausedMs' | 'left'>, expiryMs: number) {
      total = { ms: total.ms + pausedMs, runs: total.runs + 1 }
      const average = Math.max(total.ms / total.runs, MIN_AVERAGE_MS)
      notBefore = performance.now() + Math.max(average / pause - average, tookMs * REST)
      expiryAt = performance.now() + expiryMs
      if (left > 0) counts = { ...counts, deletions: counts.deletions + 1 }
      change()
    },
    failed(retryMs: number) {
      counts = { ...counts, deletions: counts.deletions + 1 }
      notBefore = performance.now() + retryMs
      change()
    },
    /** Resolves when it is time to collect. */
    async due(signal: AbortSignal): Promise<void> {
      for (let waitMs = dueAt() - performance.now(); waitMs > 0; waitMs = dueAt() - performance.now()) {
        const waiting = new AbortController()
        const either = AbortSignal.any([signal, waiting.signal])
        const timer = sleep(Math.min(waitMs, MAX_TIMER_MS), undefined, { signal: either, ref: false })
        await Promise.race([timer.catch(() => undefined), changed.promise])
        waiting.abort()
        if (signal.aborted) return
      }
    },
  }
}

/** One after the other. */
function createTurns() {
  let tail: Promise<unknown> = Promise.resolve()
  return {
    take<T>(work: () => Promise<T>): Promise<T> {
      const turn = tail.then(work)
      tail = turn.catch(() => undefined)
      return turn
    },
    idle: () => tail,
  }
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const stop = (): void => reject(signal.reason)
    if (signal.aborted) stop()
    else signal.addEventListener('abort', stop, { once: true })
  })
}
