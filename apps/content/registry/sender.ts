import { setTimeout as sleep } from 'node:timers/promises'
import { Fault } from '@gantry/model/fault'
import { type Access, createAuth } from './auth.ts'
import { errorText } from './body.ts'
import { type Answer, causeOf, type Question, type Transport } from './transport.ts'

const MAX_ATTEMPTS = 5
const MAX_REDIRECTS = 10
const MAX_BACKOFF_MS = 5000
const REDIRECTS = [301, 302, 303, 307, 308]
const TRANSIENT = [408, 429, 500, 502, 503, 504]

/** A request to a registry and what it is for: `what` completes "Cannot ...". */
export interface Errand extends Question {
  readonly repository: string
  readonly what: string
}

/** Sends requests to registries: asks for tokens, follows redirects, tries again where that may help. */
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

  /** One attempt; a 401 is answered with a token once. */
  async function attempt(errand: Errand, signal: AbortSignal): Promise<Answer> {
    const access: Access = { origin: errand.url.origin, repository: errand.repository }
    const answer = await follow(errand, await auth.headerFor(access), signal)
    if (answer.status !== 401) return answer
    {
      await using refused = answer
      if (refused.url.origin !== access.origin) throw await refusal(errand, refused)
      await auth.challenged(access, refused, signal)
    }
    return follow(errand, await auth.headerFor(access), signal)
  }

  /** The header of one host stays with that host: a redirect that leads elsewhere is followed as a stranger. */
  async function follow(errand: Errand, authorization: string | undefined, signal: AbortSignal): Promise<Answer> {
    let { url } = errand
    for (let hops = 0; hops <= MAX_REDIRECTS; hops++) {
      const own = url.origin === errand.url.origin
      const headers = own && authorization ? { ...errand.headers, authorization } : errand.headers
      const answer = await transport.exchange(
        { ...errand, url, headers: own ? headers : withoutSecrets(headers) },
        signal,
      )
      if (!REDIRECTS.includes(answer.status)) return answer
      await using _ = answer
      url = redirect(errand, answer)
    }
    throw new Fault('failed-precondition', `Cannot ${errand.what}: more than ${MAX_REDIRECTS} redirects`)
  }

  return {
    async send(errand, signal) {
      for (let attempts = 1; ; attempts++) {
        const result = await outcome(errand, attempt(errand, signal))
        if ('answer' in result) return result.answer
        signal.throwIfAborted()
        if (!result.again || attempts >= MAX_ATTEMPTS) throw result.fault
        const waitMs = Math.max(result.waitMs, backoffMs * 2 ** (attempts - 1) * (0.5 + Math.random() / 2))
        await sleep(Math.min(waitMs, MAX_BACKOFF_MS), undefined, { signal })
      }
    },
  }
}

type Outcome =
  | { readonly answer: Answer }
  | { readonly fault: unknown; readonly again: boolean; readonly waitMs: number }

/** Sorts what came of an attempt: an answer to use, or a failure and whether to try again. */
async function outcome(errand: Errand, attempt: Promise<Answer>): Promise<Outcome> {
  try {
    const answer = await attempt
    if (answer.status !== 401 && !TRANSIENT.includes(answer.status)) return { answer }
    await using refused = answer
    const waitMs = Number(answer.header('retry-after')) * 1000 || 0
    return { fault: await refusal(errand, refused), again: answer.status !== 401, waitMs }
  } catch (error) {
    const cause = causeOf(error)
    if (!cause) return { fault: error, again: false, waitMs: 0 }
    const fault = new Fault(cause.code, `Cannot ${errand.what}: ${errand.url.host}: ${cause.why}`, { cause: error })
    return { fault, again: cause.transient, waitMs: 0 }
  }
}

/** The fault that stands for an answer which is no success. */
export async function refusal({ what }: Pick<Errand, 'what'>, answer: Answer): Promise<Fault> {
  const { status, url } = answer
  const said = await errorText(answer)
  const text = `Cannot ${what}: ${url.host} answers ${status}${said === '' ? '' : `: ${said}`}`
  if (status === 401) return new Fault('unauthenticated', text)
  if (status === 403) return new Fault('permission-denied', text)
  if (status === 404) return new Fault('not-found', text)
  return new Fault(TRANSIENT.includes(status) ? 'unavailable' : 'failed-precondition', text)
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
  const kept = ['accept', 'accept-encoding', 'range', 'user-agent']
  return Object.fromEntries(Object.entries(headers).filter(([name]) => kept.includes(name.toLowerCase())))
}
