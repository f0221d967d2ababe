import type { Answer } from './answer.ts'
import { causeOf, type Question } from './transport.ts'

const MAX_TEXT = 16 * 1024 // characters about one request or answer
const MIN_SECRET = 8 // characters; shorter ones are words
/** Headers whose values let nobody in. */
const HARMLESS = new Set([
  ...['accept', 'accept-encoding', 'accept-ranges', 'age', 'cache-control', 'connection', 'content-encoding'],
  ...['content-length', 'content-range', 'content-type', 'date', 'docker-content-digest', 'etag', 'keep-alive'],
  ...['docker-distribution-api-version', 'docker-upload-uuid', 'last-modified', 'link', 'location', 'oci-subject'],
  ...['range', 'ratelimit-limit', 'ratelimit-remaining', 'retry-after', 'server', 'transfer-encoding', 'user-agent'],
  ...['vary', 'via', 'warning', 'www-authenticate', 'x-request-id'],
])

/** Hears of requests to registries and of their answers: whole lines about each. */
export type HttpLog = (text: string) => void

/**
 * Tells of one exchange: method, URL, status and headers. Never of bodies, and of nothing that may let somebody in: queries,
 * user names, values of headers that are not known to be harmless; nor when the answer repeats them.
 */
export async function logged(
  log: HttpLog | undefined,
  { method, url, headers }: Pick<Question, 'method' | 'url' | 'headers'>,
  exchange: () => Promise<Answer>,
): Promise<Answer> {
  if (!log) return await exchange()
  const about = `${method} ${withoutQueries(url.href)}`
  const secrets = secretsIn(headers)
  const say = (mark: string, first: string, of: Answer['all'] = {}): void =>
    log(
      `${[first, ...linesOf(of, secrets)]
        .map((line) => `${mark} ${line}\n`)
        .join('')
        .slice(0, MAX_TEXT)}\n`,
    )
  const started = performance.now()
  const took = (): string => `${Math.round(performance.now() - started)} ms`
  say('>', about, headers)
  try {
    const answer = await exchange()
    say('<', `${answer.status} ${about} (${took()})`, answer.all)
    return answer
  } catch (error) {
    say('!', `${about} (${took()}): ${causeOf(error)?.why ?? 'given up'}`)
    throw error
  }
}

function linesOf(headers: Answer['all'], secrets: readonly string[]): string[] {
  return Object.entries(headers).flatMap(([name, given]) =>
    [given ?? []].flat().map((value) => `${name}: ${HARMLESS.has(name) ? shown(value, secrets) : '***'}`),
  )
}

function shown(value: string, secrets: readonly string[]): string {
  const text = secrets.reduce((rest, secret) => rest.replaceAll(secret, '***'), value)
  return withoutQueries(text).replace(/[^\x20-\x7e]+/g, ' ')
}

function withoutQueries(text: string): string {
  return text.replace(/:\/\/[^/\s@]*@/g, '://***@').replace(/\?[^\s"'<>]*/g, '?***')
}

/** What was sent and is not shown: as it is, and its words. */
function secretsIn(headers: Readonly<Record<string, string>>): string[] {
  const hidden = Object.entries(headers).filter(([name]) => !HARMLESS.has(name))
  return hidden.flatMap(([, value]) => [value, ...value.split(' ')]).filter(({ length }) => length >= MIN_SECRET)
}
