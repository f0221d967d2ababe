import type { X509Certificate } from 'node:crypto'
import type { Http2Session } from 'node:http2'
import { type Peer, peerOf } from '@gantry/linux/peer'
import { connectionOf } from '@gantry/rpc/connection'

/** A process on this host, by what the kernel says of it. */
export interface LocalCaller extends Peer {
  readonly kind: 'local'
  /** For messages and the audit log. */
  readonly name: string
}

/** Who holds a certificate that one of our authorities signed. */
export interface RemoteCaller {
  readonly kind: 'remote'
  readonly name: string
  /** Common name of the subject; undefined when there is none, or more than one. */
  readonly cn: string | undefined
  /** Names of type URI, such as `spiffe://example/ci`. */
  readonly uris: readonly string[]
  /** SHA-256 of the certificate, lower-case hex. */
  readonly fingerprint: string
  /** When the certificate runs out, in ms: a connection may last longer. */
  readonly untilMs: number
}

/** Nobody could say who. */
export interface UnknownCaller {
  readonly kind: 'unknown'
  readonly name: string
}

export type Caller = LocalCaller | RemoteCaller | UnknownCaller

const NOBODY: UnknownCaller = { kind: 'unknown', name: 'an unknown caller' }

/** Who is at the other end of a connection; it stays the same while the connection stands. */
export function callerOf(session: Http2Session | undefined): Caller {
  const known = session && callers.get(session)
  if (known) return known
  const caller = session && !session.destroyed ? identify(session) : NOBODY
  if (session) callers.set(session, caller)
  return caller
}

const callers = new WeakMap<Http2Session, Caller>()

function identify(session: Http2Session): Caller {
  const { fd, certificate } = connectionOf(session)
  if (certificate) return certificateCaller(certificate)
  if (fd === undefined) return NOBODY
  const peer = peerOf(fd)
  return { kind: 'local', name: `uid ${peer.uid}`, ...peer }
}

/** @param certificate of a connection whose handshake has checked it */
export function certificateCaller(certificate: X509Certificate): RemoteCaller {
  const { CN: cn } = certificate.toLegacyObject().subject
  const fingerprint = certificate.fingerprint256.replaceAll(':', '').toLowerCase()
  const only = typeof cn === 'string' ? cn : undefined
  return {
    kind: 'remote',
    name: only === undefined ? `certificate ${fingerprint.slice(0, 16)}` : `certificate ${JSON.stringify(only)}`,
    cn: only,
    uris: urisOf(certificate.subjectAltName ?? ''),
    fingerprint,
    untilMs: certificate.validToDate.getTime(),
  }
}

/** `DNS:a, URI:b`, where a value that holds a comma or a quote is a JSON string. Text of another form has no names. */
export function urisOf(names: string): string[] {
  const uris: string[] = []
  const pattern = /([^:,"]+):("(?:[^"\\]|\\.)*"|[^",]*)(?:, |$)/y
  while (pattern.lastIndex < names.length) {
    const [, type, value = ''] = pattern.exec(names) ?? []
    if (type === undefined) return []
    if (type === 'URI') uris.push(value.startsWith('"') ? String(JSON.parse(value)) : value)
  }
  return uris
}
