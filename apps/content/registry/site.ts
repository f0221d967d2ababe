import { Fault, isFault } from '@gantry/model/fault'
import type { Reference } from '@gantry/model/reference'
import type { Endpoint } from './endpoint.ts'
import type { Hosts } from './hosts.ts'
import type { Capability } from './hosts-file.ts'
import type { HttpLog } from './http-log.ts'
import type { Errand } from './sender.ts'
import type { Wallet } from './wallet.ts'

const USER_AGENT = 'gantry'
const ATTEMPTS_BEFORE_NEXT = 2 // where there is another endpoint to ask
/** What only a request itself can know. */
const OF_THE_REQUEST = ['connection', 'content-length', 'content-type', 'expect', 'host', 'range', 'transfer-encoding']
const MAX_EARLIER = 500 // characters about endpoints that failed before the last one

/** A repository, and what the client wants to be said to its host. */
export interface Source {
  readonly reference: Reference
  /** `http`, `https` or `''`. */
  readonly defaultScheme: string
  /** For the host of the reference, not for mirrors. */
  readonly headers: Readonly<Record<string, string>>
  /** A `certs.d` folder that counts before the configured one. */
  readonly hostDir?: string
  /** Whose credentials are used; those of the service unless told. */
  readonly wallet?: Wallet
  /** It gets nothing of what files about hosts have to get in: no headers, no client certificates. */
  readonly asStranger?: boolean
  /** Told of every request for it. */
  readonly log?: HttpLog | undefined
}

/** One endpoint for one source: where a request goes. */
export interface Site {
  readonly endpoint: Endpoint
  readonly source: Source
  readonly wallet: Wallet
  /** Is there no other one behind it? */
  readonly last: boolean
}

export interface SiteParts {
  readonly hosts: Hosts
  /** What the service itself has. */
  readonly wallet: Wallet
}

/**
 * Where to ask, in order.
 *
 * @throws {Fault} `failed-precondition` when no endpoint may be asked for this, or a file about them cannot be used
 */
export async function sitesOf(
  { hosts, wallet }: SiteParts,
  source: Source,
  capabilities: readonly Capability[],
): Promise<Site[]> {
  const { reference, defaultScheme, hostDir = '', asStranger = false } = source
  const all = await hosts({ host: reference.host, defaultScheme, hostDir })
  const able = all.filter((endpoint) => capabilities.every((needed) => endpoint.capabilities.includes(needed)))
  if (able.length === 0)
    throw new Fault(
      'failed-precondition',
      `Cannot use ${reference.host}: ${all[0]?.from ?? 'nothing'} names no host for ${capabilities.join(' and ')}`,
    )
  return able.map((endpoint, at) => ({
    endpoint: asStranger ? { ...endpoint, headers: {}, dial: { ...endpoint.dial, clients: [] } } : endpoint,
    ...{ source, wallet: source.wallet ?? wallet, last: at === able.length - 1 },
  }))
}

/** A request to a site. Headers of the client are for the host it named, those of the file for the host they stand at. */
export function errandFor(
  { endpoint, source, wallet, last }: Site,
  request: Pick<Errand, 'method' | 'url' | 'what' | 'headers' | 'body' | 'renew'> & {
    readonly scopes?: readonly string[]
  },
): Errand {
  return {
    scopes: [`repository:${source.reference.path}:pull`],
    ...request,
    ...{ endpoint, wallet, log: source.log },
    ...(last ? {} : { attempts: ATTEMPTS_BEFORE_NEXT }),
    headers: {
      'user-agent': USER_AGENT,
      ...(endpoint.own ? usable(source.headers) : {}),
      ...usable(endpoint.headers),
      'accept-encoding': 'identity',
      ...request.headers,
    },
  }
}

/** Asks one site after the other until one has an answer. @throws what the last one failed with, and names the others */
export async function firstOf<T>(
  sites: readonly Site[],
  ask: (site: Site) => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  const earlier: Fault[] = []
  for (const site of sites) {
    try {
      return await ask(site)
    } catch (error) {
      if (signal.aborted || !isFault(error)) throw error
      if (site.last) throw withEarlier(error, earlier)
      earlier.push(error)
    }
  }
  throw new Fault('internal', 'Cannot ask: there is no endpoint')
}

/** The last failure, with what came before it: a mirror that does not work should not go unnoticed. */
export function withEarlier(last: Fault, earlier: readonly Fault[]): Fault {
  const told = earlier.filter(({ code }) => code !== 'not-found').map(({ message }) => message)
  if (told.length === 0) return last
  return new Fault(last.code, `${last.message} (before that: ${told.join('; ').slice(0, MAX_EARLIER)})`, {
    cause: last,
  })
}

function usable(headers: Readonly<Record<string, string>>): Record<string, string> {
  const lower = Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value] as const)
  return Object.fromEntries(lower.filter(([name]) => !OF_THE_REQUEST.includes(name)))
}
