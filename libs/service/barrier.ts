import type { Thing } from '@gantry/api/gantry/collection/v1/collection_pb'
import { Fault } from '@gantry/model/fault'
import type { Key, Table } from '@gantry/store/table'
import type { Changes } from './changes.ts'

const DELETION = /\/(delete|remove)$/ // topics that say that something may have lost its last reference

export type ThingName = Pick<Thing, 'namespace' | 'kind' | 'id'>

/** How much has happened since the process began. */
export interface Counts {
  readonly deletions: number
  readonly mutations: number
}

/**
 * What lets a collection look at the records of a process while they change: it notes what is written, and for a short
 * while it holds writes back.
 *
 *   begin --> noting --pause--> writes wait --resume, or the time is over--> (nothing)
 *               ^---resume with more to come---'
 */
export interface Barrier {
  /** Every write that gives or takes a name goes through here. */
  readonly changes: Pick<Changes, 'write'>
  /** The same table; what is put there counts as touched under the name that `nameOf` gives it. */
  watch<V>(table: Table<V>, nameOf: (key: Key) => ThingName): Table<V>
  /** Says that something was deleted that no event tells of. */
  deleted(): void
  /** Resolves when all that was written before is on disk, where a scan sees it: it is not among what is noted. */
  begin(token: string): Promise<void>
  /** Resolves when all that was written is on disk. @throws {Fault} `failed-precondition` for another token */
  pause(token: string, holdMs: number): Promise<ThingName[]>
  /** @throws {Fault} `failed-precondition` unless the first half of that pause still runs */
  checkSweep(token: string): void
  isTouched(thing: ThingName): boolean
  /** Writes go on, and are still noted when there is `more` to come. Again, or with another token, is no error. */
  resume(token: string, more: boolean): void
  /** At once, and again whenever there is more. */
  counts(signal: AbortSignal): AsyncIterable<Counts>
}

interface Cycle {
  readonly token: string
  readonly touched: Map<string, ThingName>
  pause?: { readonly sweepUntil: number; readonly over: Promise<void>; readonly end: () => void }
}

/** @param clock milliseconds of a clock that is never set */
export function createBarrier(changes: Pick<Changes, 'write'>, clock: () => number = () => performance.now()): Barrier {
  let cycle: Cycle | undefined
  const tally = createTally()

  function end(): void {
    const pause = cycle?.pause
    cycle = undefined
    pause?.end()
  }

  function current(token: string): Cycle {
    if (cycle?.token !== token)
      throw new Fault('failed-precondition', 'Cannot collect: the collection is over, or this process has begun since')
    return cycle
  }

  return {
    changes: {
      async write(fn, until) {
        while (cycle?.pause) await cycle.pause.over
        tally.mutation()
        return changes.write(
          (emit) =>
            fn((namespace, topic, schema, init) => {
              if (DELETION.test(topic)) tally.deletion()
              emit(namespace, topic, schema, init)
            }),
          until,
        )
      },
    },
    watch: (table, nameOf) => ({
      ...table,
      put(key, value) {
        const name = nameOf(key)
        cycle?.touched.set(textOf(name), name)
        table.put(key, value)
      },
    }),
    deleted: tally.deletion,
    async begin(token) {
      end()
      cycle = { token, touched: new Map() }
      await changes.write(() => undefined)
    },
    async pause(token, holdMs) {
      const paused = current(token)
      if (paused.pause) throw new Fault('failed-precondition', 'Cannot pause twice in one collection')
      const { promise, resolve } = Promise.withResolvers<void>()
      const timer = setTimeout(() => cycle === paused && end(), holdMs)
      const over = (): void => {
        clearTimeout(timer)
        resolve()
      }
      paused.pause = { sweepUntil: clock() + holdMs / 2, over: promise, end: over }
      await changes.write(() => undefined) // behind all that ran before: it is on disk now, or this throws
      current(token)
      return [...paused.touched.values()]
    },
    checkSweep(token) {
      const { pause } = current(token)
      if (!pause || clock() >= pause.sweepUntil)
        throw new Fault('failed-precondition', 'Cannot sweep: the time for it is over')
    },
    isTouched: (name) => cycle?.touched.has(textOf(name)) ?? false,
    resume(token, more) {
      if (cycle?.token !== token) return
      if (!more) return end()
      cycle.pause?.end()
      delete cycle.pause
    },
    counts: tally.watch,
  }
}

function textOf({ namespace, kind, id }: ThingName): string {
  return `${namespace}\0${kind}\0${id}`
}

function createTally() {
  let counts = { deletions: 0, mutations: 0 }
  let more = Promise.withResolvers<void>()
  const add = (deletions: number, mutations: number): void => {
    counts = { deletions: counts.deletions + deletions, mutations: counts.mutations + mutations }
    more.resolve()
    more = Promise.withResolvers()
  }
  return {
    mutation: () => add(0, 1),
    deletion: () => add(1, 0),
    async *watch(signal: AbortSignal): AsyncGenerator<Counts> {
      const wake = (): void => add(0, 0) // all watchers wake: a race with a promise that lasts would keep every round of it
      signal.addEventListener('abort', wake, { once: true })
      try {
        while (!signal.aborted) {
          const next = more.promise
          yield counts
          await next
        }
      } finally {
        signal.removeEventListener('abort', wake)
      }
    },
  }
}
