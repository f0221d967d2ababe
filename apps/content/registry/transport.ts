import { createHash } from 'node:crypto'
import { Readable } from 'node:stream'
import { getCACertificates } from 'node:tls'
import { Fault } from '@gantry/model/fault'
import { Agent, type Dispatcher, EnvHttpProxyAgent } from 'undici'
import type { Answer } from './answer.ts'
import { ask, type OpenSink } from './ask.ts'
import { steady } from './body.ts'
import { type Dial, isLoopback, PLAIN_DIAL } from './dial.ts'
import { connector } from './socket.ts'

const CONNECT_MS = 30_000
const KEEP_ALIVE_MS = 30_000
const MAX_HEADER_BYTES = 64 * 1024
const MAX_DIALS = 64 // ways to connect that are kept open; the one unused for longest goes first
const PATIENCE = 4 // a registry may take so many times longer over what was sent to it

export interface Question {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT'
  readonly url: URL
  readonly headers: Readonly<Record<string, string>>
  /** What is sent, from its start for every attempt; its length stands in `headers`. */
  readonly body?: () => AsyncIterable<Uint8Array>
  /** How to connect; as to anybody unless told. */
  readonly dial?: Dial
}

/** One HTTP exchange: no redirects, no retries, no credentials of its own. */
export interface Transport extends AsyncDisposable {
  /**
   * @param openSink takes the body where it returns a sink; `body` then has nothing
   * @throws what undici throws: see `causeOf`
   */
  exchange(question: Question, signal: AbortSignal, openSink?: OpenSink): Promise<Answer>
}

/** How to get out, as the environment says; empty means not set. */
export interface ProxySettings {
  readonly httpProxy: string
  readonly httpsProxy: string
  readonly noProxy: string
}

export interface Network {
  readonly proxy: ProxySettings
  /** How long a server may stay silent, before it answers and between two pieces of a body. */
  readonly stallMs: number
}

export function createTransport({ proxy, stallMs }: Network): Transport {
  const dials = new Map<string, Dispatchers>()

  function dispatcherFor(url: URL, dial: Dial): Dispatcher {
    const key = createHash('sha256').update(JSON.stringify(dial)).digest('base64')
    const { direct, outside } = dials.get(key) ?? createDispatchers(dial, { proxy, stallMs })
    dials.delete(key)
    dials.set(key, { direct, outside })
    const [oldest] = dials
    if (oldest && dials.size > MAX_DIALS) {
      dials.delete(oldest[0])
      for (const unused of Object.values(oldest[1])) unused.close().catch(() => undefined) // ends when its requests have
    }
    return isLoopback(url.host) ? direct : outside
  }

  return {
    async exchange({ method, url, headers, body, dial = PLAIN_DIAL }, signal, openSink) {
      const request = {
        ...{ origin: url.origin, path: `${url.pathname}${url.search}`, method, headers: { ...headers } },
        ...(body && { body: Readable.from(body(), { objectMode: false }), headersTimeout: stallMs * PATIENCE }),
      }
      const answer = await ask(dispatcherFor(url, dial), { url, request, openSink }, signal)
      const patience = { stallMs: 2 * stallMs, what: `the answer of ${url.host}` } // who knows better what it is gives up first
      return { ...answer, body: steady(answer.body, patience) }
    },
    async [Symbol.asyncDispose]() {
      const all = [...dials.values()].flatMap(({ direct, outside }) => [direct, outside])
      await Promise.all(all.map((dispatcher) => dispatcher.destroy()))
    },
  }
}

interface Dispatchers {
  readonly direct: Dispatcher
  readonly outside: Dispatcher
}

function createDispatchers(dial: Dial, { proxy, stallMs }: { proxy: ProxySettings; stallMs: number }): Dispatchers {
  const timeout = dial.timeoutMs ?? CONNECT_MS
  const tls = {
    ...(dial.ca.length > 0 && { ca: [...getCACertificates('default'), ...dial.ca] }),
    ...(dial.clients.length > 0 && {
      cert: dial.clients.map(({ certificate }) => certificate),
      key: dial.clients.map(({ key }) => key),
    }),
    ...(dial.skipVerify && { rejectUnauthorized: false }),
  }
  const options = {
    connect: connector({ timeout, allowH2: false, ...tls }), // one connection a blob is faster than many blobs on one
    headersTimeout: stallMs,
    bodyTimeout: stallMs,
    keepAliveTimeout: KEEP_ALIVE_MS,
    maxHeaderSize: MAX_HEADER_BYTES,
    allowH2: false,
  }
  return {
    direct: new Agent(options),
    outside: new EnvHttpProxyAgent({ ...options, ...proxy, ...(Object.keys(tls).length > 0 && { requestTls: tls }) }),
  }
}

/** What a failed exchange means: why, whether trying again may help, and which fault it is. */
export interface Cause {
  readonly why: string
  readonly transient: boolean
  readonly code: 'unavailable' | 'failed-precondition'
}

const CAUSES: Readonly<Record<string, readonly [why: string, transient: boolean]>> = {
  ECONNREFUSED: ['connection refused', false],
  ENOTFOUND: ['no such host', false],
  EAI_AGAIN: ['the name cannot be looked up', true],
  EHOSTUNREACH: ['no route to the host', false],
  ENETUNREACH: ['no route to the network', false],
  ECONNRESET: ['the connection was reset', true],
  EPIPE: ['the connection was closed', true],
  ETIMEDOUT: ['the connection timed out', true],
  UND_ERR_SOCKET: ['the connection was closed', true],
  UND_ERR_CONNECT_TIMEOUT: ['no connection within the time', false],
  UND_ERR_HEADERS_TIMEOUT: ['it does not answer', false],
  UND_ERR_BODY_TIMEOUT: ['its answer stalled', true],
  ERR_SSL_WRONG_VERSION_NUMBER: ['it does not speak TLS, and plain HTTP was not asked for', false],
  ERR_SSL_PACKET_LENGTH_TOO_LONG: ['it does not speak TLS, and plain HTTP was not asked for', false],
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: ['the answer ended early', true],
}

/** Reads an error of `Transport`; undefined for one that is not about the network. */
export function causeOf(error: unknown): Cause | undefined {
  if (!(error instanceof Error) || error instanceof Fault) return undefined
  const code = 'code' in error && error.code !== undefined ? String(error.code) : error.name
  const known = CAUSES[code]
  if (known) return { why: `${known[0]} (${code})`, transient: known[1], code: 'unavailable' }
  if (/CERT|SIGNATURE|SELF_SIGNED|ALTNAME/.test(code))
    return { why: `its certificate is not trusted (${code})`, transient: false, code: 'failed-precondition' }
  if (code === 'UND_ERR_ABORTED') return { why: error.message, transient: false, code: 'unavailable' } // a proxy refuses
  if (/^(HTTPParserError$|HPE_|EPROTO$|ERR_SSL_|UND_ERR_)/.test(code))
    return { why: `it does not answer in HTTP as expected (${code})`, transient: false, code: 'failed-precondition' }
  return undefined
}
