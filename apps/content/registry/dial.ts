import { isIPv4 } from 'node:net'

/** How a connection to one host is made. Made for that host only: another one gets `PLAIN_DIAL`. */
export interface Dial {
  /** Certificates in PEM that may vouch for it, besides those of the system. */
  readonly ca: readonly string[]
  /** Who we are, in PEM. */
  readonly clients: readonly { readonly certificate: string; readonly key: string }[]
  readonly skipVerify: boolean
  readonly timeoutMs: number | undefined
}

export const PLAIN_DIAL: Dial = { ca: [], clients: [], skipVerify: false, timeoutMs: undefined }

/** Is this host, with or without a port, the machine itself? */
export function isLoopback(host: string): boolean {
  const name = host.replace(/:\d+$/, '').toLowerCase()
  return name === 'localhost' || name === '[::1]' || (isIPv4(name) && name.startsWith('127.'))
}
