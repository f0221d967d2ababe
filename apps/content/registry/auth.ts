import { createHash } from 'node:crypto'
import type { Found } from '@gantry/client/credentials'
import { Fault } from '@gantry/model/fault'
import { abortable } from '@gantry/service/abortable'
import type { Answer } from './answer.ts'
import { type Challenge, parseChallenges } from './challenge.ts'
import type { Dial } from './dial.ts'
import { type HttpLog, logged } from './http-log.ts'
import { fetchToken, standing } from './token.ts'
import type { Transport } from './transport.ts'
import { identityOf, type Owner, type Wallet } from './wallet.ts'

const MAX_TOKENS = 4096 // kept; the oldest goes first
const BASIC_S = 3600
const TOKEN_MS = 60_000 // for one token, whoever waits for it
const MARGIN_MS = 2000 // a token that ends now would end on the way

/** Who asks for what: tokens are kept by host, scope and owner, who may be known by a header, and go nowhere else. */
export interface Access {
  readonly origin: string
  /** Whose credentials are wanted. */
  readonly owner: Owner
  /** Such as `repository:team/app:pull`, the first one first. */
  readonly scopes: readonly string[]
  readonly wallet: Wallet
  readonly dial: Dial
  /** Of the request: its token server gets them too, when it is the same host. */
  readonly headers: Readonly<Record<string, string>>
  readonly log?: HttpLog | undefined
}

/** How to be let in. */
export interface Auth {
  /** The Authorization header for a request, undefined while none was asked for. */
  headerFor(access: Access): string | undefined
  /**
   * Gets a header as the 401 `answer` asks. Whoever wants the same at the same time shares it.
   *
   * @param refused the header that was just refused
   * @returns the header, and whether it is a new one: one that is new and refused will not get better
   * @throws {Fault} `unauthenticated` when there is no way in, `failed-precondition` for nonsense, `unavailable` when the
   * token server is down
   */
  challenged(
    access: Access,
    question: { readonly answer: Answer; readonly refused: string | undefined },
    signal: AbortSignal,
  ): Promise<{ header: string; fresh: boolean }>
}

interface Token {
  readonly header: string
  readonly expiresAtMs: number
}

export function createAuth(transport: Transport, now: () => number): Auth {
  const tokens = new Map<string, Token>()
  const running = new Map<string, Promise<Token>>()

  function valid(key: string): Token | undefined {
    const token = tokens.get(key)
    if (token && token.expiresAtMs > now()) return token
    tokens.delete(key)
    return undefined
  }

  function keep(key: string, token: Token): void {
    tokens.delete(key)
    tokens.set(key, token)
    const [oldest] = tokens.keys()
    if (tokens.size > MAX_TOKENS && oldest !== undefined) tokens.delete(oldest)
  }

  /** One request for a token at a time; it goes on when one of those who wait is gone. */
  async function share(key: string, get: (signal: AbortSignal) => Promise<Token>, signal: AbortSignal): Promise<Token> {
    const shared =
      running.get(key) ??
      get(AbortSignal.timeout(TOKEN_MS))
        .then((token) => {
          keep(key, token)
          return token
        })
        .finally(() => running.delete(key))
    running.set(key, shared)
    return await abortable(shared, signal)
  }

  return {
    headerFor(access) {
      const known = access.wallet.known(access.owner)
      return known && valid(keyOf(access, known === 'none' ? undefined : known))?.header
    },
    async challenged(access, { answer, refused }, signal) {
      const challenge = choose(answer)
      const found = await access.wallet.find(access.owner, signal)
      const key = keyOf(access, found)
      const kept = valid(key)
      if (kept && kept.header !== refused) return { header: kept.header, fresh: false }
      tokens.delete(key)
      const token = await share(key, (own) => obtain({ transport, access, challenge, found, answer, now }, own), signal)
      return { header: token.header, fresh: true }
    },
  }
}

interface Obtaining {
  readonly transport: Transport
  readonly access: Access
  readonly challenge: Challenge
  readonly found: Found | undefined
  readonly answer: Pick<Answer, 'url'>
  readonly now: () => number
}

async function obtain(parts: Obtaining, signal: AbortSignal): Promise<Token> {
  const { transport, access, challenge, found, answer, now } = parts
  if (challenge.scheme === 'basic')
    return { header: basicHeader(found, answer.url.host), expiresAtMs: now() + BASIC_S * 1000 }
  const { scopes, dial, headers, log } = access
  const request = { registry: answer.url, parameters: challenge.parameters, scopes, credentials: found, dial, headers }
  const asking: Pick<Transport, 'exchange'> = {
    exchange: (question, stop) => logged(log, question, () => transport.exchange(question, stop)),
  }
  const { token, expiresInS } = await fetchToken(asking, request, signal)
  return { header: `Bearer ${token}`, expiresAtMs: now() + Math.max(expiresInS * 1000 - MARGIN_MS, 1000) }
}

/** The best challenge that we know an answer to. */
function choose(answer: Answer): Challenge {
  const challenges = parseChallenges(answer.headers('www-authenticate'))
  const known = challenges.find(({ scheme }) => scheme === 'bearer' || scheme === 'basic')
  if (known) return known
  throw new Fault(
    'unauthenticated',
    `Cannot use ${answer.url.host}: it wants ${challenges[0]?.scheme.slice(0, 32) ?? 'unknown'} credentials`,
  )
}

function basicHeader(found: Found | undefined, host: string): string {
  if (!found?.username || !found.secret)
    throw new Fault('unauthenticated', `Cannot use ${host}: it wants a name and a password; see "gantry login"`)
  return `Basic ${Buffer.from(`${found.username}:${found.secret}`).toString('base64')}`
}

/** A header that a client sends may let it in as much as a password, and so may a certificate. */
function keyOf({ origin, scopes, headers, dial }: Access, found: Found | undefined): string {
  const said = createHash('sha256')
    .update(JSON.stringify([standing(headers), dial.clients]))
    .digest('base64')
  return [origin, identityOf(found), said, ...scopes].join(' ')
}
