import { setTimeout as sleep } from 'node:timers/promises'
import { type Descriptor, isIndex, isManifest } from '@gantry/model/descriptor'
import { Fault, isFault } from '@gantry/model/fault'
import type { Answer, Piece, SavedPart } from './answer.ts'
import { steady } from './body.ts'
import type { Courier } from './courier.ts'
import { type Endpoint, endpointOf, urlOf } from './endpoint.ts'
import { type Ahead, fetchInParts, type Range } from './parts.ts'
import { refusal, type Sender } from './sender.ts'
import { errandFor, type Site, withEarlier } from './site.ts'
import { causeOf } from './transport.ts'

const MAX_FAILURES = 3 // in a row with next to nothing between them
const MIN_BYTES = 1024n // that a connection has to bring to be none of them
const NOWHERE = 'https://foreign.invalid' // nobody's credentials are for such a host
const MAX_URLS = 4 // of a descriptor

/** Hears of what comes. */
export interface FetchWatch {
  received(bytes: number): void
  retried(): void
}

export interface FetchParts<P extends Piece> {
  readonly sender: Sender
  readonly watch?: FetchWatch
  readonly stallMs: number
  readonly backoffMs: number
  readonly taking: Taking<P>
}

type Place = { readonly url: URL; readonly site: Site }

/** What becomes of the bytes: they are handed over, or a courier takes them and tells how many. */
export interface Taking<P extends Piece> {
  readonly courier?: Courier
  take(answer: Answer, part: SavedPart): AsyncIterable<P>
  /** Fetches a range in another way than from its start to its end. */
  spread?(
    range: Range,
    fetch: (range: Range, stop: AbortSignal) => AsyncIterable<P>,
    stop: AbortSignal,
  ): AsyncIterable<P>
  /** A piece without its first bytes. */
  rest(piece: P, skipped: number): P
}

export const HAND_OVER: Taking<Uint8Array> = {
  take: ({ body }) => body,
  rest: (piece, skipped) => piece.subarray(skipped),
}

export function takenBy(courier: Courier, ahead: Ahead | undefined): Taking<Piece> {
  return {
    courier,
    ...(ahead && { spread: (range, fetch, stop) => fetchInParts(range, { fetch, ahead }, stop) }),
    take: ({ save, body }, part) => save?.(part) ?? body,
    rest: ({ length }, skipped) => ({ length: length - skipped }),
  }
}

/** Fetches from one site after the other; each goes on where the one before it broke off. */
export async function* fetchFrom<P extends Piece>(
  parts: FetchParts<P>,
  { sites, descriptor, range }: { sites: readonly Site[]; descriptor: Descriptor; range: Range },
  signal: AbortSignal,
): AsyncGenerator<P> {
  const places = placesOf(sites, descriptor)
  const earlier: Fault[] = []
  let { from } = range
  for (const [at, place] of places.entries()) {
    try {
      const fetch = (part: Range, stop: AbortSignal) =>
        fetchPersistently(parts, { ...place, descriptor, range: part }, stop)
      const { spread } = parts.taking
      const rest = { ...range, from }
      for await (const chunk of spread ? spread(rest, fetch, signal) : fetch(rest, signal)) {
        from += BigInt(chunk.length)
        parts.watch?.received(chunk.length)
        yield chunk
      }
      return
    } catch (error) {
      if (signal.aborted || !isFault(error)) throw error
      if (at === places.length - 1) throw withEarlier(error, earlier)
      earlier.push(error)
    }
  }
}

/** Where the blob is said to be: at other addresses of its descriptor, which only foreign layers have, and here. */
function placesOf(sites: readonly Site[], descriptor: Descriptor): Place[] {
  const kind = isIndex(descriptor) || isManifest(descriptor) ? 'manifests' : 'blobs'
  const here = sites.map((site) => ({
    ...{ site, url: urlOf(site.endpoint, site.source.reference, kind, descriptor.digest) },
  }))
  const [site] = sites
  return site ? [...foreignPlaces(site, descriptor), ...here] : here
}

/** The image names these hosts, not its user: they are asked as strangers, and over TLS unless plain HTTP was asked for. */
function foreignPlaces({ source, wallet }: Site, { mediaType, urls = [] }: Descriptor): Place[] {
  if (!/nondistributable|\.foreign\./.test(mediaType)) return []
  const schemes = source.defaultScheme === 'http' ? ['http:', 'https:'] : ['https:']
  return urls.slice(0, MAX_URLS).flatMap((text) => {
    const url = URL.parse(text)
    if (!url || !schemes.includes(url.protocol)) return []
    url.username = ''
    url.password = ''
    const endpoint: Endpoint = {
      ...endpointOf(source.reference.host, ''),
      origin: NOWHERE,
      own: false,
      from: 'the image',
    }
    return [{ url, site: { endpoint, wallet, source: { ...source, headers: {} }, last: false } }]
  })
}

interface Fetching extends Place {
  readonly descriptor: Descriptor
  readonly range: Range
}

/** Takes up a connection that breaks where it broke. */
async function* fetchPersistently<P extends Piece>(
  parts: FetchParts<P>,
  { url, site, descriptor, range }: Fetching,
  signal: AbortSignal,
): AsyncGenerator<P> {
  let { from } = range
  for (let failures = 0; from < range.to; ) {
    const before = from
    try {
      for await (const chunk of fetchOnce(parts, { url, site, descriptor, range: { ...range, from } }, signal)) {
        from += BigInt(chunk.length)
        yield chunk
      }
      if (from < range.to) throw shortBody(url.host, descriptor, from)
    } catch (error) {
      const broken = signal.aborted ? undefined : breakOf(error, url.host, descriptor)
      if (!broken) throw error
      failures = from - before >= MIN_BYTES ? 1 : failures + 1
      if (!broken.again || failures > MAX_FAILURES) throw broken.fault
      parts.watch?.retried()
      await sleep(parts.backoffMs * 2 ** failures * (0.5 + Math.random() / 2), undefined, { signal })
    }
  }
}

/** One connection's worth of bytes. */
async function* fetchOnce<P extends Piece>(
  { sender, stallMs, taking }: FetchParts<P>,
  fetching: Fetching,
  signal: AbortSignal,
): AsyncGenerator<P> {
  const { url, site, descriptor, range } = fetching
  const { reference } = site.source
  const { from, to } = range
  const whole = to === descriptor.size
  const what = `fetch ${descriptor.digest} of ${reference.text}`
  const part = whole ? (from > 0n ? { range: `bytes=${from}-` } : {}) : { range: `bytes=${from}-${to - 1n}` }
  const headers = { accept: `${descriptor.mediaType}, */*`, ...part }
  const errand = errandFor(site, { method: 'GET', url, what, headers })
  await using answer = await sender.send({ ...errand, courier: taking.courier }, signal)
  if (answer.status === 404) throw new Fault('not-found', `${reference.text}: ${descriptor.digest}: not found`)
  if (answer.status !== 200 && answer.status !== 206) throw await refusal(errand, answer)
  if (answer.status === 200 && !whole)
    throw new Fault('unimplemented', `Cannot ${what}: ${answer.url.host} does not send parts`)
  let skip = checkAnswer(answer, { what, range, size: descriptor.size })
  let left = to - from
  const body = taking.take(answer, { at: Number(from), skip: Number(skip), limit: Number(left) })
  for await (const chunk of steady(body, { stallMs, what: `${descriptor.digest} from ${answer.url.host}` })) {
    const skipped = skip < BigInt(chunk.length) ? Number(skip) : chunk.length
    skip -= BigInt(skipped)
    left -= BigInt(chunk.length - skipped)
    if (left < 0n)
      throw new Fault(
        'failed-precondition',
        `Cannot ${what}: ${answer.url.host} sends more than the ${descriptor.size} bytes promised`,
      )
    if (skipped < chunk.length) yield taking.rest(chunk, skipped)
  }
}

/** Does the answer promise the bytes we want? Returns how many come before them, for a server that knows no ranges. */
function checkAnswer(
  answer: Answer,
  { what, range: { from: at, to }, size }: { what: string; range: Range; size: bigint },
): bigint {
  const nonsense = (why: string) => new Fault('failed-precondition', `Cannot ${what}: ${answer.url.host} ${why}`)
  const encoding = answer.header('content-encoding')
  if (encoding !== '' && encoding !== 'identity')
    throw nonsense(`answers in the encoding ${JSON.stringify(encoding.slice(0, 32))}`)
  const partial = answer.status === 206
  const sent = `bytes ${at}-${to - 1n}/`
  if (partial && ![`${sent}${size}`, `${sent}*`].includes(answer.header('content-range')))
    throw nonsense('answers with another range')
  const length = answer.header('content-length')
  const expected = partial ? to - at : size
  if (length !== '' && length !== String(expected))
    throw nonsense(`promises ${length.slice(0, 20)} bytes, not ${expected}`)
  return partial ? 0n : at
}

/** What a body that broke off means, and whether to go on from there; undefined for every other failure. */
function breakOf(error: unknown, host: string, { digest }: Descriptor): { fault: Fault; again: boolean } | undefined {
  if (error instanceof ShortBody) return { fault: error.fault, again: true }
  const cause = causeOf(error)
  if (!cause) return undefined
  const fault = new Fault(cause.code, `Cannot fetch ${digest}: ${host}: ${cause.why}`, { cause: error })
  return { fault, again: cause.transient }
}

class ShortBody extends Error {
  readonly fault: Fault
  constructor(fault: Fault) {
    super(fault.message)
    this.fault = fault
  }
}

function shortBody(host: string, { digest, size }: Descriptor, at: bigint): ShortBody {
  return new ShortBody(new Fault('unavailable', `Cannot fetch ${digest}: ${host} stopped after ${at} of ${size} bytes`))
}
