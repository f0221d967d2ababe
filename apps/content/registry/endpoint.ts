import { isIPv4 } from 'node:net'
import type { Digest } from '@gantry/model/digest'
import { Fault } from '@gantry/model/fault'
import type { Reference } from '@gantry/model/reference'

/** Where the API of a registry is. */
export interface Endpoint {
  /** The host as references name it, for labels and messages. */
  readonly host: string
  /** Scheme, host and port, such as `https://registry-1.docker.io`. */
  readonly origin: string
}

/**
 * The endpoint that serves a host. Plain HTTP only where the request asks for it, or on this very machine, and there
 * not on port 443 (behaviour facts, 17.2).
 *
 * @param defaultScheme what the request says, `''` when it says nothing
 * @throws {Fault} `invalid-argument` for a scheme other than http and https
 */
export function endpointOf(host: string, defaultScheme: string): Endpoint {
  if (!['', 'http', 'https'].includes(defaultScheme))
    throw new Fault(
      'invalid-argument',
      `Cannot use scheme ${JSON.stringify(defaultScheme.slice(0, 32))}: http or https`,
    )
  const dialled = host === 'docker.io' || host === 'index.docker.io' ? 'registry-1.docker.io' : host
  const port = /:(\d+)$/.exec(host)?.[1] ?? ''
  const plain = isLoopback(host) && port !== '' && port !== '443'
  const scheme = defaultScheme || (plain ? 'http' : 'https')
  return { host, origin: `${scheme}://${dialled}` }
}

/** Is this host, with or without a port, the machine itself? */
export function isLoopback(host: string): boolean {
  const name = host.replace(/:\d+$/, '').toLowerCase()
  return name === 'localhost' || name === '[::1]' || (isIPv4(name) && name.startsWith('127.'))
}

/** The address of a manifest or blob. The parts are parsed ones, so nothing in them can lead elsewhere. */
export function urlOf(
  endpoint: Endpoint,
  reference: Reference,
  what: 'manifests' | 'blobs',
  object: Digest | string,
): URL {
  return new URL(`/v2/${reference.path}/${what}/${object}`, endpoint.origin)
}
