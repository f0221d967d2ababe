import { Fault } from '@gantry/model/fault'
import { errorText, readBounded } from './body.ts'
import { parseChallenges } from './challenge.ts'
import { isLoopback } from './endpoint.ts'
import { type Answer, causeOf, type Transport } from './transport.ts'

const MAX_TOKEN_BYTES = 64 * 1024
const DEFAULT_EXPIRY_S = 60
const TOKEN = /^[\x21-\x7e]{1,32768}$/ // what may stand in a header

/** Who asks for what: tokens are kept by host and scope and go nowhere else. */
export interface Access {
  readonly origin: string
  readonly repository: string
}

/** Anonymous access: tokens that anybody gets for the asking. */
export interface Auth {
  /** The Authorization header for a request, undefined while none was asked for. */
  headerFor(access: Access): Promise<string | undefined>
  /**
   * Gets a token as the 401 `answer` asks.
   *
   * @throws {Fault} `unauthenticated` when there is no way in without credentials, `failed-precondition` for nonsense,
   * `unavailable` when the token server is down
   */
  challenged(access: Access, answer: Answer, signal: AbortSignal): Promise<void>
}

interface Token {
  readonly header: string
  readonly expiresAtMs: number
}

export function createAuth(transport: Transport, now: () => number): Auth {
  const tokens = new Map<string, Token>()
  const keyOf = ({ origin, repository }: Access): string => `${origin} ${repository}`
  return {
    async headerFor(access) {
      const token = tokens.get(keyOf(access))
      if (token && token.expiresAtMs > now()) return token.header
      tokens.delete(keyOf(access))
      return undefined
    },
    async challenged(access, answer, signal) {
      const challenge = parseChallenges(answer.headers('www-authenticate'))[0]
      if (challenge?.scheme !== 'bearer')
        throw new Fault(
          'unauthenticated',
          `Cannot use ${answer.url.host}: it wants ${challenge?.scheme ?? 'unknown'} credentials`,
        )
      const url = tokenUrl(access, answer.url, challenge.parameters)
      const { token, expiresInS } = await fetchToken(transport, url, signal)
      tokens.set(keyOf(access), { header: `Bearer ${token}`, expiresAtMs: now() + expiresInS * 1000 })
    },
  }
}

/** Where to ask. A registry reached over TLS cannot send us to a token server that is not. */
function tokenUrl({ repository }: Access, registry: URL, parameters: Readonly<Record<string, string>>): URL {
  const realm = URL.parse(parameters.realm ?? '')
  if (!realm || !['http:', 'https:'].includes(realm.protocol))
    throw new Fault('failed-precondition', `Cannot use ${registry.host}: its realm is no address of a token server`)
  if (registry.protocol === 'https:' && realm.protocol === 'http:' && !isLoopback(realm.host))
    throw new Fault('failed-precondition', `Cannot use ${registry.host}: its token server ${realm.host} is not secure`)
  realm.username = ''
  realm.password = ''
  const asked = (parameters.scope ?? '').split(' ').filter((scope) => scope !== '')
  const scopes = [...new Set([...asked, `repository:${repository}:pull`])].sort()
  if (parameters.service) realm.searchParams.set('service', parameters.service)
  for (const scope of scopes) realm.searchParams.append('scope', scope)
  return realm
}

async function fetchToken(
  transport: Transport,
  url: URL,
  signal: AbortSignal,
): Promise<{ token: string; expiresInS: number }> {
  await using answer = await ask(transport, url, signal)
  if (answer.status !== 200) {
    const code = answer.status >= 500 || answer.status === 429 ? 'unavailable' : 'unauthenticated'
    throw new Fault(
      code,
      `Cannot get a token from ${url.host}: it answers ${answer.status} ${await errorText(answer)}`.trim(),
    )
  }
  const body = await readBounded(answer, MAX_TOKEN_BYTES, `the token of ${url.host}`)
  return parseToken(body.toString(), url.host)
}

async function ask(transport: Transport, url: URL, signal: AbortSignal): Promise<Answer> {
  try {
    return await transport.exchange({ method: 'GET', url, headers: { accept: 'application/json' } }, signal)
  } catch (error) {
    const cause = causeOf(error)
    if (!cause) throw error
    throw new Fault(cause.code, `Cannot get a token from ${url.host}: ${cause.why}`, { cause: error })
  }
}

function parseToken(text: string, host: string): { token: string; expiresInS: number } {
  const nonsense = new Fault('failed-precondition', `Cannot get a token from ${host}: it answers nonsense`)
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw nonsense
  }
  if (typeof value !== 'object' || value === null) throw nonsense
  const fields: Record<string, unknown> = { ...value }
  const token = fields.token || fields.access_token
  if (typeof token !== 'string' || !TOKEN.test(token)) throw nonsense
  const seconds = Number(fields.expires_in)
  return { token, expiresInS: Number.isFinite(seconds) && seconds > 0 ? seconds : DEFAULT_EXPIRY_S }
}
