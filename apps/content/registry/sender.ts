import { setTimeout as sleep } from 'node:timers/promises'
import { Fault } from '@gantry/model/fault'
import type { Answer } from './answer.ts'
import { type Access, createAuth } from './auth.ts'
import { errorText } from './body.ts'
import type { Courier } from './courier.ts'
import { PLAIN_DIAL } from './dial.ts'
import { type Endpoint, ownerOf } from './endpoint.ts'
import { type HttpLog, logged } from './http-log.ts'
import { causeOf, type Question, type Transport } from './transport.ts'
import type { Wallet } from './wallet.ts'

const MAX_ATTEMPTS = 5
const MAX_CHALLENGES = 2 // a token that others still have may be stale, a new one is not
const MAX_REDIRECTS = 10
const MAX_BACKOFF_MS = 5000
const MAX_RETRY_AFTER_MS = 30_000 // however long the registry wants us to wait
const REDIRECTS = [301, 302, 303, 307, 308]
const TRANSIENT = [408, 429, 500, 502, 503, 504]
const HARMLESS = ['accept', 'accept-encoding', 'range', 'user-agent']

/** A request to a registry and what it is for: `what` completes "Cannot ...". */
export interface Errand extends Omit<Question, 'dial'> {
  readonly endpoint: Endpoint
  /** What a token has to allow. */
  readonly scopes: readonly string[]
  readonly wallet: Wallet
  readonly what: string
  /** How often it may be tried; fewer where another endpoint can be asked instead. */
  readonly attempts?: number
  /** Where to send it when it is tried again; to the same address unless told. */
  readonly renew?: (() => Promise<URL>) | undefined
  /** Asks in place of the transport. */
  readonly courier?: Courier | undefined
  /** Told of every exchange, those for a token included. */
  readonly log?: HttpLog | undefined
}

/** Sends requests to registries: gets let in, follows redirects, tries again where that may help. */
export interface Sender {
  /**
   * The answer, whatever its status but the transient ones and 401.
   *
   * @throws {Fault} `unavailable` naming host and cause, `unauthenticated`, `failed-precondition` for nonsense
   */
  send(errand: Errand, signal: AbortSignal): Promise<Answer>
}

export interface SenderParts {
  readonly transport: Transport
  readonly now: () => number
  /** Wait before the second attempt, in ms; it doubles with each further one. */
  readonly backoffMs: number
}

export function createSender({ transport, now, backoffMs }: SenderParts): Sender {
  const auth = createAuth(transport, now)

  /** One attempt; a 401 is answered with a header, and once more when that header was not a new one. */
  async function attempt(errand: Errand, signal: AbortSignal): Promise<Answer> {
    const access = accessOf(errand)
    let header = auth.headerFor(access)
    let fresh = false
    for (let challenges = 0; ; challenges++) {
      const answer = await follow(errand, header, signal)
      if (answer.status !== 401 || fresh || challenges >= MAX_CHALLENGES) return answer
      await using refused = answer
      if (refused.url.origin !== access.origin) throw await refusal(errand, refused)
      const next = await auth.challenged(access, { answer: refused, refused: header }, signal)
      header = next.header
      fresh = next.fresh
    }
  }

  /** What is meant for one host stays with that host: a redirect that leads elsewhere is followed as a stranger. */
  async function follow(errand: Errand, authorization: string | undefined, signal: AbortSignal): Promise<Answer> {
    const { method, body, endpoint, what } = errand
    let { url } = errand
    for (let hops = 0; hops <= MAX_REDIRECTS; hops++) {
      const own = url.origin === endpoint.origin
      const all = { ...errand.headers, ...(authorization !== undefined && { authorization }) }
      const headers = own ? all : withoutSecrets(errand.headers)
      const dial = own ? endpoint.dial : PLAIN_DIAL
      const { courier, log } = errand
      const question = { method, url, headers, dial }
      const answer = await logged(log, question, () =>
        courier
          ? courier.exchange(question, signal)
          : transport.exchange({ ...question, ...(body && { body }) }, signal),
      )
      if (!REDIRECTS.includes(answer.status)) return answer
      await using _ = answer
      if (method !== 'GET' && method !== 'HEAD')
        throw new Fault('failed-precondition', `Cannot ${what}: ${url.host} redirects what is sent to it`)
      url = redirect(errand, answer)
    }
    throw new Fault('failed-precondition', `Cannot ${what}: more than ${MAX_REDIRECTS} redirects`)
  }

  return {
    async send(given, signal) {
      const { attempts: most = MAX_ATTEMPTS, renew } = given
      let errand = given
      for (let attempts = 1; ; attempts++) {
        const result = await outcome(errand, attempt(errand, signal), now)
        if ('answer' in result) return result.answer
        signal.throwIfAborted()
        if (!result.again || attempts >= most) throw result.fault
        const backoff = Math.min(backoffMs * 2 ** (attempts - 1), MAX_BACKOFF_MS) * (0.5 + Math.random() / 2)
        await sleep(Math.max(result.waitMs, backoff), undefined, { signal })
        if (renew) errand = { ...errand, url: await renew() }
      }
    },
  }
}

function accessOf({ endpoint, scopes, wallet, headers, log }: Errand): Access {
  const { origin, dial } = endpoint
  return { origin, owner: ownerOf(endpoint), scopes, wallet, dial, headers, log }
}

type Outcome =
  | { readonly answer: Answer }
  | { readonly fault: unknown; readonly again: boolean; readonly waitMs: number }

/** Sorts what came of an attempt: an answer to use, or a failure and whether to try again. */
async function outcome(errand: Errand, attempt: Promise<Answer>, now: () => number): Promise<Outcome> {
  try {
    const answer = await attempt
    if (answer.status !== 401 && !TRANSIENT.includes(answer.status)) return { answer }
    await using refused = answer
    const waitMs = retryAfterMs(answer.header('retry-after'), now())
    return { fault: await refusal(errand, refused), again: answer.status !== 401, waitMs }
  } catch (error) {
    const cause = causeOf(error)
    if (!cause) return { fault: error, again: false, waitMs: 0 }
    const fault = new Fault(cause.code, `Cannot ${errand.what}: ${errand.url.host}: ${cause.why}`, { cause: error })
    return { fault, again: cause.transient, waitMs: 0 }
  }
}

/** Seconds or a date, as HTTP has it; 0 for anything else. */
export function retryAfterMs(text: string, nowMs: number): number {
  const isDate = /^[A-Z][a-z]{2,8}, /.test(text)
  const wanted = /^\d{1,9}$/.test(text) ? Number(text) * 1000 : isDate ? Date.parse(text) - nowMs : 0
  return Number.isFinite(wanted) ? Math.min(Math.max(wanted, 0), MAX_RETRY_AFTER_MS) : 0
}

/** The fault that stands for an answer which is no success. */
export async function refusal(
  errand: Pick<Errand, 'what' | 'headers' | 'wallet' | 'endpoint'>,
  answer: Answer,
): Promise<Fault> {
  const { status, url } = answer
  const said = await errorText(answer, secretsOf(errand))
  const text = `Cannot ${errand.what}: ${url.host} answers ${status}${said === '' ? '' : `: ${said}`}`
  if (status === 401) return new Fault('unauthenticated', text)
  if (status === 403) return new Fault('permission-denied', text)
  if (status === 404) return new Fault('not-found', text)
  return new Fault(TRANSIENT.includes(status) ? 'unavailable' : 'failed-precondition', text)
}

/** What may have been sent and must not be shown, should the registry send it back. */
function secretsOf({ headers, wallet, endpoint }: Pick<Errand, 'headers' | 'wallet' | 'endpoint'>): string[] {
  const known = wallet.known(ownerOf(endpoint))
  const given = Object.entries(headers).filter(([name]) => !HARMLESS.includes(name.toLowerCase()))
  const values = given.map(([, value]) => value).filter((value) => value.length >= 8) // shorter ones are words
  if (known === undefined || known === 'none') return values
  return [known.secret, `${known.username}:${known.secret}`, ...values]
}

function redirect({ what }: Errand, answer: Answer): URL {
  const target = URL.parse(answer.header('location'), answer.url.href)
  if (!target || !['http:', 'https:'].includes(target.protocol))
    throw new Fault('failed-precondition', `Cannot ${what}: ${answer.url.host} redirects to nowhere`)
  if (answer.url.protocol === 'https:' && target.protocol === 'http:')
    throw new Fault('failed-precondition', `Cannot ${what}: ${answer.url.host} redirects to ${target.host} without TLS`)
  target.username = ''
  target.password = ''
  return target
}

/** Only what says which bytes are wanted goes to another host. */
function withoutSecrets(headers: Readonly<Record<string, string>>): Record<string, string> {
  const lengths = ['content-type', 'content-length'] // of what is uploaded where the registry said
  return Object.fromEntries(
    Object.entries(headers).filter(([name]) => [...HARMLESS, ...lengths].includes(name.toLowerCase())),
  )
}
