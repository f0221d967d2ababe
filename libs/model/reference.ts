import { type Digest, parseDigest } from './digest.ts'
import { Fault } from './fault.ts'

const MAX_LENGTH = 512 // characters of the whole text
const MAX_PATH = 255
const HOST =
  /^(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[A-Fa-f0-9:]+\])(?::[0-9]{1,5})?$/
const PATH_PART = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/
const TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/

/** Where an image lives: `host[:port]/path[:tag][@digest]`. */
export interface Reference {
  readonly host: string // with the port, when there is one
  readonly path: string
  readonly tag?: string
  readonly digest?: Digest
  readonly text: string
}

/**
 * Reads a full reference. Nothing is added: there must be a host, and a missing tag stays missing.
 *
 * @throws {Fault} `invalid-argument`
 */
export function parseReference(text: string): Reference {
  if (text.length > MAX_LENGTH) throw malformed(text, `longer than ${MAX_LENGTH} characters`)
  if (text.includes('://')) throw malformed(text, 'it has a scheme')
  const slash = text.indexOf('/')
  if (slash <= 0) throw malformed(text, 'it has no host')
  const host = text.slice(0, slash)
  if (!HOST.test(host)) throw malformed(text, 'the host is malformed')
  const { path, tag, digest } = splitObject(text.slice(slash + 1))
  if (path.length > MAX_PATH || !path.split('/').every((part) => PATH_PART.test(part)))
    throw malformed(text, 'the path is malformed')
  if (tag !== undefined && !TAG.test(tag)) throw malformed(text, 'the tag is malformed')
  return {
    host,
    path,
    ...(tag === undefined ? {} : { tag }),
    ...(digest === undefined ? {} : { digest: parseDigest(digest) }),
    text,
  }
}

/**
 * Completes what people type, as Docker does: `busybox` is `docker.io/library/busybox:latest`. A first part with a dot, a
 * colon or the name `localhost` is a host. A digest needs no tag.
 *
 * @throws {Fault} `invalid-argument`
 */
export function normalizeReference(short: string): Reference {
  const slash = short.indexOf('/')
  const first = slash < 0 ? '' : short.slice(0, slash)
  const isHost = /[.:]/.test(first) || first === 'localhost' || first !== first.toLowerCase()
  const host = isHost ? first.replace(/^index\.docker\.io$/, 'docker.io') : 'docker.io'
  const rest = isHost ? short.slice(slash + 1) : short
  const { path, tag, digest } = splitObject(rest)
  const official = host === 'docker.io' && !path.includes('/') ? `library/${path}` : path
  const wantsTag = tag === undefined && digest === undefined
  const object = `${wantsTag ? ':latest' : tag === undefined ? '' : `:${tag}`}${digest === undefined ? '' : `@${digest}`}`
  return parseReference(`${host}/${official}${object}`)
}

/** The reference without tag and digest: what names the repository. */
export function repositoryOf(reference: Reference): string {
  return `${reference.host}/${reference.path}`
}

function splitObject(rest: string): { path: string; tag?: string; digest?: string } {
  const at = rest.indexOf('@')
  const named = at < 0 ? rest : rest.slice(0, at)
  const colon = named.indexOf(':')
  return {
    path: colon < 0 ? named : named.slice(0, colon),
    ...(colon < 0 ? {} : { tag: named.slice(colon + 1) }),
    ...(at < 0 ? {} : { digest: rest.slice(at + 1) }),
  }
}

function malformed(text: string, why: string): Fault {
  return new Fault('invalid-argument', `Cannot use reference ${JSON.stringify(text.slice(0, 128))}: ${why}`)
}
