import { Fault } from '@gantry/model/fault'
import { Agent, type Dispatcher, EnvHttpProxyAgent, request } from 'undici'
import { isLoopback } from './endpoint.ts'

const CONNECT_MS = 30_000
const KEEP_ALIVE_MS = 30_000
const MAX_HEADER_BYTES = 64 * 1024

/** The answer to one HTTP request. Disposing it drops what was not read. */
export interface Answer extends AsyncDisposable {
  readonly url: URL
  readonly status: number
  /** First value of a header, `''` when absent. */
  header(name: string): string
  /** All values of a header. */
  headers(name: string): readonly string[]
  readonly body: AsyncIterable<Uint8Array>
}

export interface Question {
  readonly method: 'GET' | 'HEAD'
  readonly url: URL
  readonly headers: Readonly<Record<string, string>>
}

/** One HTTP exchange: no redirects, no retries, no credentials of its own. */
export interface Transport extends AsyncDisposable {
  /** @throws what undici throws: see `causeOf` */
  exchange(question: Question, signal: AbortSignal): Promise<Answer>
}

/** How to get out, as the environment says; empty means not set. */
export interface ProxySettings {
  readonly httpProxy: string
  readonly httpsProxy: string
  readonly noProxy: string
}

/** @param stallMs how long a server may stay silent, before it answers and between two pieces of a body */
export function createTransport({ proxy, stallMs }: { proxy: ProxySettings; stallMs: number }): Transport {
  const options = {
    connect: { timeout: CONNECT_MS },
    headersTimeout: stallMs,
    bodyTimeout: stallMs,
    keepAliveTimeout: KEEP_ALIVE_MS,
    maxHeaderSize: MAX_HEADER_BYTES,
    allowH2: false, // one connection a blob is faster than many blobs on one
  }
  const direct = new Agent(options)
  const outside = new EnvHttpProxyAgent({ ...options, ...proxy })
  return {
    async exchange({ method, url, headers }, signal) {
      const dispatcher = isLoopback(url.host) ? direct : outside
      const answer = await request(url, { method, headers: { ...headers }, signal, dispatcher })
      return toAnswer(url, answer)
    },
    async [Symbol.asyncDispose]() {
      await Promise.all([direct.destroy(), outside.destroy()])
    },
  }
}

function toAnswer(url: URL, { statusCode, headers, body }: Dispatcher.ResponseData): Answer {
  body.on('error', () => undefined) // whoever reads the body sees it; dropping the rest is no error
  const valuesOf = (name: string): readonly string[] => {
    const value = headers[name.toLowerCase()]
    return value === undefined ? [] : Array.isArray(value) ? value : [value]
  }
  return {
    url,
    status: statusCode,
    header: (name) => valuesOf(name)[0] ?? '',
    headers: valuesOf,
    body,
    [Symbol.asyncDispose]: async () => void body.destroy(),
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
  UND_ERR_BODY_TIMEOUT: ['its answer stalled', false],
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
