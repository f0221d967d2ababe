import type { Digest } from '@gantry/model/digest'
import { Fault } from '@gantry/model/fault'
import type { Reference } from '@gantry/model/reference'
import { type Dial, isLoopback, PLAIN_DIAL } from './dial.ts'
import { CAPABILITIES, type Capability } from './hosts-file.ts'
import type { Owner } from './wallet.ts'

/** One place where the API of a registry is. */
export interface Endpoint {
  /** The host as references name it, for labels and messages. */
  readonly host: string
  /** Scheme, host and port as a URL has them, such as `https://registry-1.docker.io`. */
  readonly origin: string
  /** What comes before the repository, such as `/v2`. */
  readonly prefix: string
  /** Is it the host that the reference names? A mirror is not, and gets nothing that is meant for that host. */
  readonly own: boolean
  readonly capabilities: readonly Capability[]
  readonly headers: Readonly<Record<string, string>>
  readonly dial: Dial
  /** The file that says so, or `default`. */
  readonly from: string
}

/**
 * The endpoint of a host that no file says anything about. Plain HTTP only where the request asks for it, or on this very
 * machine, and there not on port 443 (behaviour facts, 17.2).
 *
 * @param defaultScheme what the request says, `''` when it says nothing
 * @throws {Fault} `invalid-argument` for a scheme other than http and https, or a host that no address can have
 */
export function endpointOf(host: string, defaultScheme: string): Endpoint {
  if (!['', 'http', 'https'].includes(defaultScheme))
    throw new Fault(
      'invalid-argument',
      `Cannot use scheme ${JSON.stringify(defaultScheme.slice(0, 32))}: http or https`,
    )
  const port = /:(\d+)$/.exec(host)?.[1] ?? ''
  const plain = isLoopback(host) && port !== '' && port !== '443'
  const scheme = defaultScheme || (plain ? 'http' : 'https')
  const url = URL.parse(`${scheme}://${dialledHost(host)}`)
  if (!url) throw new Fault('invalid-argument', `Cannot use ${host}: no host can have that address`)
  return {
    ...{ host, origin: url.origin, prefix: '/v2', own: true },
    ...{ capabilities: CAPABILITIES, headers: {}, dial: PLAIN_DIAL, from: 'default' },
  }
}

/** Whose credentials are for it: by the name that references have for it, also where a port goes without saying. */
export function ownerOf({ host, origin, own }: Endpoint): Owner {
  return { host: own ? dialledHost(host).toLowerCase() : new URL(origin).host, own }
}

/** Docker's registry has a name that is not its address. */
export function dialledHost(host: string): string {
  return host === 'docker.io' || host === 'index.docker.io' ? 'registry-1.docker.io' : host
}

/** The address of a manifest or blob. The parts are parsed ones, so nothing in them can lead elsewhere. */
export function urlOf(
  endpoint: Endpoint,
  reference: Reference,
  what: 'manifests' | 'blobs' | 'referrers',
  object: Digest | string,
): URL {
  return apiUrlOf(endpoint, `/${reference.path}/${what}/${object}`)
}

/** Any address of the API. A mirror is told whose image is meant: it may serve many hosts. */
export function apiUrlOf(endpoint: Endpoint, path: string): URL {
  const url = new URL(`${endpoint.prefix}${path}`, endpoint.origin)
  if (!endpoint.own) url.searchParams.set('ns', endpoint.host)
  return url
}
