import type { Credentials } from '@gantry/client/credentials'
import { Fault } from '@gantry/model/fault'
import type { Answer } from './answer.ts'
import { errorText, readBounded } from './body.ts'
import { type Dial, isLoopback, PLAIN_DIAL } from './dial.ts'
import { causeOf, type Question, type Transport } from './transport.ts'

const MAX_TOKEN_BYTES = 64 * 1024
const DEFAULT_EXPIRY_S = 60
const MAX_EXPIRY_S = 24 * 3600
const TOKEN = /^[\x21-\x7e]{1,32768}$/ // what may stand in a header
const OF_THE_REQUEST = ['accept', 'authorization', 'content-length', 'content-type', 'range']
const CLIENT_ID = 'gantry'
/** What servers answer that only know GET; 405 counts for a password only, since GET has no place for a token. */
const NO_POST = [400, 401, 404, 405]

/** What a token is wanted for. */
export interface TokenRequest {
  /** Who sent us to the token server. */
  readonly registry: URL
  /** Of its challenge. */
  readonly parameters: Readonly<Record<string, string>>
  readonly scopes: readonly string[]
  /** Undefined: as anybody. */
  readonly credentials: Credentials | undefined
  /** How the registry is connected to. */
  readonly dial: Dial
  /** What is said to the registry. */
  readonly headers: Readonly<Record<string, string>>
}

/**
 * Gets a bearer token: with credentials by POST as OAuth has it, and by GET where the server knows no POST; without them
 * by GET.
 *
 * @throws {Fault} `unauthenticated` when it is refused, `failed-precondition` for nonsense, `unavailable` when the server
 * is down
 * @see behaviour facts, 17.6
 */
export async function fetchToken(
  transport: Pick<Transport, 'exchange'>,
  request: TokenRequest,
  signal: AbortSignal,
): Promise<{ token: string; expiresInS: number }> {
  const { registry, credentials } = request
  const realm = realmOf(request)
  if (credentials) checkRealm(registry, realm)
  const dial = dialFor(request, realm)
  if (credentials) {
    const form = oauthForm(realm, request, credentials)
    const headers = { ...headersFor(request, realm), ...form.headers }
    await using answer = await ask(transport, { ...form, headers, dial }, signal)
    const getMayHelp = NO_POST.includes(answer.status) && (answer.status !== 405 || credentials.username !== '')
    if (!getMayHelp) return await readToken(answer, credentials)
  }
  const { username, secret } = credentials ?? {}
  const basic = Buffer.from(`${username}:${secret}`).toString('base64')
  const headers = { ...headersFor(request, realm), ...(credentials && { authorization: `Basic ${basic}` }) }
  await using answer = await ask(transport, { method: 'GET', url: questionUrl(realm, request), headers, dial }, signal)
  return await readToken(answer, credentials)
}

/** Where to ask. A registry reached over TLS cannot send us to a token server that is not. */
function realmOf({ registry, parameters }: TokenRequest): URL {
  const realm = URL.parse(parameters.realm ?? '')
  if (!realm || !['http:', 'https:'].includes(realm.protocol))
    throw new Fault('failed-precondition', `Cannot use ${registry.host}: its realm is no address of a token server`)
  if (registry.protocol === 'https:' && realm.protocol === 'http:' && !isLoopback(realm.host))
    throw new Fault('failed-precondition', `Cannot use ${registry.host}: its token server ${realm.host} is not secure`)
  realm.username = ''
  realm.password = ''
  realm.hash = ''
  return realm
}

/** Credentials leave the host they are for only towards its token server, and then only over TLS. */
function checkRealm(registry: URL, realm: URL): void {
  if (realm.protocol === 'https:' || (registry.protocol === 'http:' && realm.hostname === registry.hostname)) return
  throw new Fault(
    'failed-precondition',
    `Cannot log in to ${registry.host}: its token server ${realm.host} is another host without TLS`,
  )
}

/** Who may vouch for the registry may vouch for its token server; the rest is for the very same host. */
function dialFor({ registry, dial }: TokenRequest, realm: URL): Dial {
  return realm.hostname === registry.hostname ? dial : { ...PLAIN_DIAL, ca: dial.ca }
}

/** What is said to a host stays there; who we are may be known. */
function headersFor({ registry, headers }: TokenRequest, realm: URL): Record<string, string> {
  const said = realm.origin === registry.origin ? standing(headers) : { 'user-agent': headers['user-agent'] ?? '' }
  return { ...said, accept: 'application/json' }
}

/** What is said to a host with every request, whatever that asks for. */
export function standing(headers: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !OF_THE_REQUEST.includes(name)))
}

function scopesOf({ parameters, scopes }: TokenRequest): string[] {
  const asked = (parameters.scope ?? '').split(' ').filter((scope) => scope !== '')
  return [...new Set([...asked, ...scopes])].sort()
}

function questionUrl(realm: URL, request: TokenRequest): URL {
  const url = new URL(realm)
  if (request.parameters.service) url.searchParams.set('service', request.parameters.service)
  for (const scope of scopesOf(request)) url.searchParams.append('scope', scope)
  return url
}

function oauthForm(url: URL, request: TokenRequest, { username, secret }: Credentials): Omit<Question, 'dial'> {
  const form = new URLSearchParams({
    ...(username === ''
      ? { grant_type: 'refresh_token', refresh_token: secret }
      : { grant_type: 'password', username, password: secret }),
    service: request.parameters.service ?? '',
    ...(scopesOf(request).length > 0 && { scope: scopesOf(request).join(' ') }),
    client_id: CLIENT_ID,
  })
  const bytes = Buffer.from(form.toString())
  return {
    ...{
      method: 'POST',
      url,
      body: async function* () {
        yield bytes
      },
    },
    headers: {
      'content-type': 'application/x-www-form-urlencoded; charset=utf-8',
      'content-length': String(bytes.length),
    },
  }
}

async function ask(transport: Pick<Transport, 'exchange'>, question: Question, signal: AbortSignal): Promise<Answer> {
  try {
    return await transport.exchange(question, signal)
  } catch (error) {
    const cause = causeOf(error)
    if (!cause) throw error
    throw new Fault(cause.code, `Cannot get a token from ${question.url.host}: ${cause.why}`, { cause: error })
  }
}

async function readToken(
  answer: Answer,
  credentials: Credentials | undefined,
): Promise<{ token: string; expiresInS: number }> {
  const { status, url } = answer
  if (status !== 200) {
    const code = status >= 500 || status === 429 ? 'unavailable' : 'unauthenticated'
    const said = await errorText(
      answer,
      credentials ? [credentials.secret, `${credentials.username}:${credentials.secret}`] : [],
    )
    throw new Fault(code, `Cannot get a token from ${url.host}: it answers ${status} ${said}`.trim())
  }
  const body = await readBounded(answer, MAX_TOKEN_BYTES, `the token of ${url.host}`)
  return parseToken(body.toString(), url.host)
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
  const known = Number.isFinite(seconds) && seconds > 0
  return { token, expiresInS: known ? Math.min(seconds, MAX_EXPIRY_S) : DEFAULT_EXPIRY_S }
}
