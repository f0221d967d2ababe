import { createHash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Descriptor, isIndex, isManifest, MEDIA } from '@gantry/model/descriptor'
import { isDigest, sha256Of } from '@gantry/model/digest'
import { Fault } from '@gantry/model/fault'
import { MAX_MANIFEST_BYTES } from '@gantry/model/manifest'
import type { Reference } from '@gantry/model/reference'
import { readBounded, steady } from './body.ts'
import { type Endpoint, endpointOf, urlOf } from './endpoint.ts'
import { createPusher, type Pusher } from './push.ts'
import { createSender, refusal, type Sender } from './sender.ts'
import { type Answer, causeOf, type Transport } from './transport.ts'

const ACCEPT = [MEDIA.dockerManifest, MEDIA.dockerIndex, MEDIA.ociManifest, MEDIA.ociIndex, '*/*'].join(', ')
const USER_AGENT = 'gantry'
const MAX_FAILURES = 3 // in a row without a byte between them

/** A repository to pull from, and what the client wants to be said to it. */
export interface Source {
  readonly reference: Reference
  /** `http`, `https` or `''`. */
  readonly defaultScheme: string
  readonly headers: Readonly<Record<string, string>>
}

/** Reads from registries, as a client that nobody knows. */
export interface Registry {
  /**
   * What the tag or digest of the reference names now.
   *
   * @throws {Fault} `not-found`, `unavailable` naming host and cause, `unauthenticated`, `permission-denied`,
   * `failed-precondition` when the answer makes no sense, `invalid-argument` for a schema 1 manifest or no tag
   * @see behaviour facts, 17.3
   */
  resolve(source: Source, signal: AbortSignal): Promise<Descriptor>
  /**
   * The bytes of a manifest or blob from `offset` on, never more than the descriptor says. A connection that breaks is
   * taken up again where it broke. The bytes are not proven: whoever stores them checks the digest.
   *
   * @throws {Fault} as `resolve`
   */
  fetch(source: Source, descriptor: Descriptor, offset: bigint, signal: AbortSignal): AsyncIterable<Uint8Array>
  readonly push: Pusher
}

export interface RegistryParts {
  readonly transport: Transport
  readonly now: () => number
  readonly stallMs: number
  readonly backoffMs: number
}

export function createRegistry(parts: RegistryParts): Registry {
  const sender = createSender(parts)
  return {
    push: createPusher(),
    async resolve(source, signal) {
      const { reference } = source
      const object = reference.digest ?? reference.tag
      if (object === undefined)
        throw new Fault('invalid-argument', `Cannot resolve ${reference.text}: no tag or digest`)
      const endpoint = endpointOf(reference.host, source.defaultScheme)
      const errand = {
        url: urlOf(endpoint, reference, 'manifests', object),
        headers: { ...headersOf(source), accept: ACCEPT },
        repository: reference.path,
        what: `resolve ${reference.text}`,
      }
      const ask = async (method: 'HEAD' | 'GET') => await sender.send({ ...errand, method }, signal)
      {
        await using head = await ask('HEAD')
        if (head.status === 404) throw notFound(reference)
        const descriptor = head.status === 200 ? describe(reference, head) : undefined
        if (descriptor) return descriptor
      }
      await using answer = await ask('GET')
      if (answer.status === 404) throw notFound(reference)
      if (answer.status !== 200) throw await refusal(errand, answer)
      return await describeBody(reference, answer)
    },

    async *fetch(source, descriptor, offset, signal) {
      let at = offset
      for (let failures = 0; at < descriptor.size; ) {
        const before = at
        try {
          for await (const chunk of fetchOnce({ ...parts, sender, source, descriptor }, at, signal)) {
            at += BigInt(chunk.length)
            yield chunk
          }
          if (at < descriptor.size) throw shortBody(source.reference.host, descriptor, at)
        } catch (error) {
          const broken = signal.aborted ? undefined : breakOf(error, source.reference.host, descriptor)
          if (!broken) throw error
          failures = at > before ? 1 : failures + 1
          if (!broken.again || failures > MAX_FAILURES) throw broken.fault
          await sleep(parts.backoffMs * 2 ** failures, undefined, { signal })
        }
      }
    },
  }
}

interface Fetching extends RegistryParts {
  readonly sender: Sender
  readonly source: Source
  readonly descriptor: Descriptor
}

/** One connection's worth of bytes from `at` on. */
async function* fetchOnce({ sender, source, descriptor, stallMs }: Fetching, at: bigint, signal: AbortSignal) {
  const { reference } = source
  const endpoint: Endpoint = endpointOf(reference.host, source.defaultScheme)
  const kind = isIndex(descriptor) || isManifest(descriptor) ? 'manifests' : 'blobs'
  const what = `fetch ${descriptor.digest} of ${reference.text}`
  const errand = {
    method: 'GET' as const,
    url: urlOf(endpoint, reference, kind, descriptor.digest),
    headers: {
      ...headersOf(source),
      accept: `${descriptor.mediaType}, */*`,
      ...(at > 0n ? { range: `bytes=${at}-` } : {}),
    },
    repository: reference.path,
    what,
  }
  await using answer = await sender.send(errand, signal)
  if (answer.status === 404) throw new Fault('not-found', `${reference.text}: ${descriptor.digest}: not found`)
  if (answer.status !== 200 && answer.status !== 206) throw await refusal(errand, answer)
  let skip = checkAnswer(answer, { what, at, size: descriptor.size })
  let left = descriptor.size - at
  for await (const chunk of steady(answer.body, { stallMs, what: `${descriptor.digest} from ${answer.url.host}` })) {
    const skipped = skip < BigInt(chunk.length) ? Number(skip) : chunk.length
    skip -= BigInt(skipped)
    left -= BigInt(chunk.length - skipped)
    if (left < 0n)
      throw new Fault(
        'failed-precondition',
        `Cannot ${what}: ${answer.url.host} sends more than the ${descriptor.size} bytes promised`,
      )
    if (skipped < chunk.length) yield chunk.subarray(skipped)
  }
}

/** Does the answer promise the bytes we want? Returns how many come before them, for a server that knows no ranges. */
function checkAnswer(answer: Answer, { what, at, size }: { what: string; at: bigint; size: bigint }): bigint {
  const nonsense = (why: string) => new Fault('failed-precondition', `Cannot ${what}: ${answer.url.host} ${why}`)
  const encoding = answer.header('content-encoding')
  if (encoding !== '' && encoding !== 'identity')
    throw nonsense(`answers in the encoding ${JSON.stringify(encoding.slice(0, 32))}`)
  const partial = answer.status === 206
  if (partial && !answer.header('content-range').startsWith(`bytes ${at}-`))
    throw nonsense('answers with another range')
  const length = answer.header('content-length')
  const expected = partial ? size - at : size
  if (length !== '' && length !== String(expected))
    throw nonsense(`promises ${length.slice(0, 20)} bytes, not ${expected}`)
  return partial ? 0n : at
}

/** Reads the headers of a HEAD; undefined when they do not tell enough. */
function describe(reference: Reference, answer: Answer): Descriptor | undefined {
  const mediaType = mediaTypeOf(reference, answer)
  const length = answer.header('content-length')
  const said = answer.header('docker-content-digest')
  if (!/^\d{1,15}$/.test(length) || (said === '' && !reference.digest)) return undefined
  if (said !== '' && !isDigest(said))
    throw new Fault(
      'failed-precondition',
      `Cannot resolve ${reference.text}: ${answer.url.host} answers with a malformed digest`,
    )
  if (
    reference.digest &&
    said !== '' &&
    isDigest(said) &&
    sameAlgorithm(said, reference.digest) &&
    said !== reference.digest
  )
    throw new Fault('failed-precondition', `Cannot resolve ${reference.text}: ${answer.url.host} answers with ${said}`)
  const size = checkSize(reference, BigInt(length))
  const digest = reference.digest ?? said
  return isDigest(digest) ? { mediaType, digest, size } : undefined
}

/** Hashes the whole body when its headers did not tell enough. */
async function describeBody(reference: Reference, answer: Answer): Promise<Descriptor> {
  const mediaType = mediaTypeOf(reference, answer)
  const body = await readBounded(answer, MAX_MANIFEST_BYTES, `the manifest of ${reference.text}`)
  const [algorithm = 'sha256'] = (reference.digest ?? '').split(':')
  const digest = reference.digest ? `${algorithm}:${createHash(algorithm).update(body).digest('hex')}` : sha256Of(body)
  if (!isDigest(digest) || (reference.digest && digest !== reference.digest))
    throw new Fault('failed-precondition', `Cannot resolve ${reference.text}: ${answer.url.host} sends other bytes`)
  return { mediaType, digest, size: checkSize(reference, BigInt(body.length)) }
}

function mediaTypeOf(reference: Reference, answer: Answer): string {
  const mediaType = (answer.header('content-type').split(';')[0] ?? '').trim().toLowerCase()
  if (isManifest(mediaType) || isIndex(mediaType)) return mediaType
  if (/^application\/vnd\.docker\.distribution\.manifest\.v1\+/.test(mediaType) || mediaType === 'text/plain')
    throw new Fault('invalid-argument', `Cannot pull ${reference.text}: schema 1 manifests are not supported`)
  throw new Fault(
    'failed-precondition',
    `Cannot resolve ${reference.text}: ${answer.url.host} answers with ${JSON.stringify(mediaType.slice(0, 100))}, not with a manifest`,
  )
}

function checkSize(reference: Reference, size: bigint): bigint {
  if (size > 0n && size <= BigInt(MAX_MANIFEST_BYTES)) return size
  throw new Fault('failed-precondition', `Cannot resolve ${reference.text}: a manifest of ${size} bytes`)
}

function headersOf({ headers }: Source): Record<string, string> {
  return { 'user-agent': USER_AGENT, ...headers, 'accept-encoding': 'identity' }
}

function sameAlgorithm(a: string, b: string): boolean {
  return a.split(':')[0] === b.split(':')[0]
}

function notFound({ text }: Reference): Fault {
  return new Fault('not-found', `${text}: not found`)
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
