import { setTimeout as sleep } from 'node:timers/promises'
import { Fault } from '@gantry/model/fault'
import { type JetStreamManager, NatsError, type StreamInfo } from 'nats'
import { abortable } from './abortable.ts'
import type { LoggedEvent, LogStart } from './bus.ts'
import type { Reader } from './forerunner.ts'
import type { Link } from './link.ts'
import { type PullStart, pull } from './pull.ts'
import { STREAM } from './stream.ts'

const FIRST_RETRY_MS = 50
const LAST_RETRY_MS = 1000
const MAX_REMEMBERED = 10_000 // senders, and ids without a count
const NO_MESSAGE = 10037 // the server's code for "no message at this sequence"

/** How far a reader is. */
interface Cursor {
  /** Where to go on: the next sequence or, before anything was read, a time. */
  next: PullStart | 'end'
  /** It began at the very first event there is, whichever that is: until one was read, none can be missed. */
  readonly fromStart: boolean
  /** Who reads, if another process may go on for it. */
  readonly reader: Reader | undefined
  /** The first sequence this reader was meant to see. */
  first: number | undefined
  last: { readonly sequence: number; readonly id: string } | undefined
  /** When the log was made; another time means that the server lost its data and began a new one. */
  log: string | undefined
}

/** See `Bus.read`. Whatever breaks, the next attempt goes on behind the last event that was handed out. */
export function readLog(
  link: Link,
  { from, reader, signal }: { from: LogStart; reader?: Reader | undefined; signal: AbortSignal },
): AsyncIterable<LoggedEvent> {
  const fromStart = typeof from === 'number' && from <= 1
  const next = startOf(link, from)
  return follow(link, { next, fromStart, reader, first: undefined, last: undefined, log: undefined }, signal)
}

function startOf(link: Link, from: LogStart): Cursor['next'] {
  if (from === 'new') return link.session ? 'end' : new Date() // with no server to ask for the end, "now" is a time
  return typeof from === 'number' ? Math.max(from, 1) : from
}

async function* follow(link: Link, cursor: Cursor, signal: AbortSignal): AsyncGenerator<LoggedEvent> {
  const isDouble = createDoubles()
  const fallback = new Date()
  let delay = FIRST_RETRY_MS
  while (!signal.aborted) {
    try {
      const session = await link.next(signal)
      const start = await abortable(locate(session.manager, cursor), signal)
      for await (const event of pull(session, { start, reader: cursor.reader }, signal)) {
        delay = FIRST_RETRY_MS
        checkGap(cursor, event.sequence)
        cursor.next = event.sequence + 1
        cursor.first ??= event.sequence
        cursor.last = event
        if (!isDouble(event.id)) yield event
      }
    } catch (error) {
      if (signal.aborted) return
      if (error instanceof Fault) throw error
      if (cursor.next === 'end') cursor.next = fallback
      await sleep(delay, undefined, { signal }).catch(() => {})
      delay = Math.min(delay * 2, LAST_RETRY_MS)
    }
  }
}

/** Finds where to go on, in a log that may have been cut short or begun anew since. */
async function locate(manager: JetStreamManager, cursor: Cursor): Promise<PullStart> {
  const goOnAt = cursor.log === undefined ? await cursor.reader?.goOnAt(manager) : undefined
  const { created, state } = await manager.streams.info(STREAM)
  const end = state.last_seq + 1
  const known = cursor.log
  cursor.log = created
  if (goOnAt !== undefined) cursor.next = Math.min(Math.max(goOnAt, state.first_seq), end)
  if (cursor.next instanceof Date) return cursor.next
  if (cursor.next === 'end') cursor.next = end
  else if (known === undefined && cursor.next > end)
    throw new Fault('out-of-range', `Cannot read events from ${cursor.next}: the log ends at ${state.last_seq}`)
  else if (known !== undefined && known !== created) cursor.next = 1
  else if (!(await isIntact(manager, cursor, state)))
    cursor.next = Math.min(Math.max(cursor.first ?? 1, state.first_seq), end)
  else checkGap(cursor, state.first_seq)
  cursor.first ??= cursor.next
  return cursor.next
}

/**
 * The log has its limits: who is too slow, or was away for too long, is told what it misses. Places in the log have no gaps.
 *
 * @param first the first place that is there, or the next one
 * @throws {Fault} `data-loss`
 */
function checkGap({ next, last, fromStart }: Cursor, first: number): void {
  if (typeof next !== 'number' || first <= next || (fromStart && last === undefined)) return
  throw new Fault(
    'data-loss',
    `Events ${next} to ${first - 1} are gone: the log keeps only so much (max_age_h, max_bytes of [nats]); go on from ${first}`,
  )
}

/** Is the event that was read last still where it was? Past the limits of the log it may be gone. */
async function isIntact(manager: JetStreamManager, { last }: Cursor, state: StreamInfo['state']): Promise<boolean> {
  if (last === undefined || last.sequence < state.first_seq) return true
  if (last.sequence > state.last_seq) return false
  try {
    const stored = await manager.streams.getMessage(STREAM, { seq: last.sequence })
    return stored.header.get('Nats-Msg-Id') === last.id
  } catch (error) {
    if (error instanceof NatsError && error.api_error?.err_code === NO_MESSAGE) return true
    throw error
  }
}

/**
 * An event may lie in the log twice: its sender repeated it after the server's duplicate window, or the server lost what
 * it knew. An outbox counts up, so an id at or below its last one is a double; any other id is one when it came lately.
 */
function createDoubles(): (id: string) => boolean {
  const senders = createRecent()
  const others = createRecent()
  return (id) => {
    const [, sender, count] = /^([^:]+):(\d+)$/.exec(id) ?? []
    if (sender !== undefined) return !senders.raise(sender, Number(count))
    return id !== '' && !others.raise(id, 1)
  }
}

/** The highest number seen for each name, for the names seen last. */
function createRecent() {
  const highest = new Map<string, number>()
  return {
    /** Is `value` higher than any before? */
    raise(name: string, value: number): boolean {
      if (value <= (highest.get(name) ?? 0)) return false
      highest.delete(name) // in again at the end: the map is in the order of use
      highest.set(name, value)
      const [oldest] = highest.size > MAX_REMEMBERED ? highest.keys() : []
      if (oldest !== undefined) highest.delete(oldest)
      return true
    },
  }
}
