import { setMaxListeners } from 'node:events'
import { Fault } from '@gantry/model/fault'
import type { Piece } from './answer.ts'

const PART = 8n * 1024n * 1024n // bytes
const LARGE_PART = 64n * 1024n * 1024n // where one connection is fast enough
const SILENT = ['UND_ERR_HEADERS_TIMEOUT', 'UND_ERR_BODY_TIMEOUT'] // of the cause of a fault
const FAST = 256 * 1024 // bytes a ms: a thread takes little more, and putting parts together costs some of that

/** Bytes of a blob: from `from` on, up to but not including `to`. */
export interface Range {
  readonly from: bigint
  readonly to: bigint
}

/** What it takes to fetch parts of one blob side by side. */
export interface Ahead {
  /** Connections for it, at most. */
  readonly connections: number
  /** One connection more may be used until this is disposed; undefined while others need all that there are. */
  spare(): Disposable | undefined
  /** Called when parts come, before any that lies behind a gap is asked for. */
  begin(): Promise<void>
}

type Fetch = (range: Range, signal: AbortSignal) => AsyncIterable<Piece>

/**
 * Fetches a large range as parts side by side, and tells how much of it is here without a gap. The first part is asked for
 * alone, others when it comes, and not as fast as it could be used. A registry that sends no parts, others than were asked
 * for, or not so many at once is asked for the rest in one piece, as it is when there is no connection to spare.
 *
 * @throws what `fetch` throws
 */
export async function* fetchInParts(
  range: Range,
  { fetch, ahead }: { readonly fetch: Fetch; readonly ahead: Ahead },
  signal: AbortSignal,
): AsyncGenerator<Piece> {
  let { from } = range
  if (range.to - from >= 2n * PART && hasSpare(ahead))
    for await (const piece of sideBySide(range, { fetch, ahead }, signal)) {
      from += BigInt(piece.length)
      yield piece
    }
  if (from < range.to) yield* fetch({ ...range, from }, signal)
}

function hasSpare({ connections, spare }: Ahead): boolean {
  using slot = connections > 1 ? spare() : undefined
  return slot !== undefined
}

/** What ended a connection, and whether bytes of its part had come. */
interface Failure {
  readonly error: unknown
  readonly midway: boolean
}

/** Not where nothing has come at all, nor where what came has stopped: it was waited for long enough. */
function onePieceMayHelp({ error, midway }: Failure, hasBegun: boolean): boolean {
  if (!(error instanceof Fault)) return false
  const { code, cause } = error
  const isSilent = cause instanceof Error && 'code' in cause && SILENT.includes(String(cause.code))
  return code === 'unimplemented' || code === 'failed-precondition' || (hasBegun && !(isSilent && midway))
}

/** A part that was asked for: up to `at` it is here. */
interface Part {
  at: bigint
  readonly to: bigint
}

/** Ends early when the rest should come in one piece. */
async function* sideBySide(
  range: Range,
  { fetch, ahead }: { readonly fetch: Fetch; readonly ahead: Ahead },
  outer: AbortSignal,
): AsyncGenerator<Piece> {
  const stop = new AbortController()
  const signal = AbortSignal.any([outer, stop.signal])
  setMaxListeners(0, signal) // every connection listens
  const parts: Part[] = [] // in their order; those at the start that are whole are taken away
  const streams = new Set<Promise<void>>()
  let next = range.from
  let begun: Promise<void> | undefined
  let [since, came, isSlow] = [0, 0, true]
  let news = Promise.withResolvers<void>()
  let failed: Failure | undefined

  function start(stream: Promise<void>): void {
    const running = stream
      .catch((error: unknown) => stop.abort(error))
      .finally(() => {
        streams.delete(running)
        news.resolve()
      })
    streams.add(running)
  }

  async function bring(): Promise<void> {
    const end = next + (isSlow ? PART : LARGE_PART)
    const part = { at: next, to: end < range.to ? end : range.to }
    next = part.to
    parts.push(part)
    const { at: from } = part
    try {
      for await (const { length } of fetch({ from, to: part.to }, signal)) {
        part.at += BigInt(length)
        news.resolve()
        measure(length)
        begun ??= ahead.begin()
        await begun
        while (came > 0 && isSlow && next < range.to && streams.size < ahead.connections && help());
      }
    } catch (error) {
      failed ??= { error, midway: part.at > from }
      throw error
    }
  }

  /** Of all connections together, since the first bytes came. */
  function measure(length: number): void {
    if (since > 0) came += length
    since ||= performance.now()
    if (came > 0) isSlow = came < FAST * (performance.now() - since)
  }

  function help(): boolean {
    const slot = ahead.spare()
    if (slot) start(bring().finally(() => slot[Symbol.dispose]()))
    return slot !== undefined
  }

  async function bringAll(): Promise<void> {
    while (next < range.to) await bring()
  }

  function front(): bigint {
    for (; parts[0] && parts[0].at === parts[0].to; parts.shift());
    return parts[0]?.at ?? next
  }

  try {
    start(bringAll())
    for (let told = range.from; ; ) {
      news = Promise.withResolvers()
      const here = front()
      if (here > told) yield { length: Number(here - told) }
      else if (streams.size === 0) break
      else await news.promise
      told = here
    }
    if (failed && (outer.aborted || !onePieceMayHelp(failed, front() > range.from))) throw failed.error
  } finally {
    stop.abort(new Error('Nobody wants the rest'))
    await Promise.all(streams)
  }
}
