import type { X509Certificate } from 'node:crypto'
import type { Http2Session } from 'node:http2'

/** What a connection tells of the other side. */
export interface Connection {
  /** Of a socket without TLS: its descriptor, good while the connection stands. */
  readonly fd: number | undefined
  /** Of one with TLS: the certificate that the handshake has checked. */
  readonly certificate: X509Certificate | undefined
}

/** Where node keeps what it has no word for; a session hands out its socket with everything on it. */
interface Insides {
  readonly _handle?: { readonly fd?: number } | null
  readonly getPeerX509Certificate?: () => X509Certificate | undefined
}

/** Looks at the connection of a session that is not destroyed yet. */
export function connectionOf(session: Http2Session): Connection {
  const socket = session.socket as unknown as Insides
  if (session.encrypted) return { fd: undefined, certificate: socket.getPeerX509Certificate?.() }
  const fd = socket._handle?.fd ?? -1
  return { fd: fd < 0 ? undefined : fd, certificate: undefined }
}
