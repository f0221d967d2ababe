import { isIP, isIPv4 } from 'node:net'
import { parseDocument } from './document.ts'
import { Fault } from './fault.ts'

/** The label of a container record that says which network the node makes for it. */
export const NETWORK_LABEL = 'gantry/network'

/** A network that the node makes for a container when it starts, and frees when it ends. */
export interface NetworkRequest {
  /** `bridge`, or the name of a network in the node's CNI folder. */
  readonly name: string
  readonly ports: readonly PublishedPort[]
  /** Name servers; those of the node when there are none. */
  readonly dns: readonly string[]
  /** Domains in which short names are looked up. */
  readonly search: readonly string[]
  /** Further lines of /etc/hosts, as `name:address`. */
  readonly hosts: readonly string[]
}

/** A port of the node that leads to one of a container. */
export interface PublishedPort {
  /** The address of the node; empty for all. */
  readonly hostIp: string
  readonly hostPort: number
  readonly containerPort: number
  readonly protocol: Protocol
}

type Protocol = 'tcp' | 'udp' | 'sctp'

const LIMITS = { bytes: 4096, entries: 512, what: 'network of the container' }
const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,75}$/
const DOMAIN = /^[a-zA-Z0-9_]([a-zA-Z0-9_.-]{0,252})$/
const MAX_PORT = 65535
const MAX_RANGE = 64 // ports of one range: each is a rule of the host's firewall

/** The text of the label. @throws {Fault} `invalid-argument` for what no network can be */
export function formatNetwork(request: NetworkRequest): string {
  check(request)
  const ports = request.ports.map(formatPort)
  const { name, dns, search, hosts } = request
  return JSON.stringify({ name, ports, dns, search, hosts })
}

/** Reads the label; anybody may have written it. @throws {Fault} `invalid-argument` */
export function parseNetworkLabel(text: string): NetworkRequest {
  const document = parseDocument(Buffer.from(text), LIMITS)
  const list = (field: string): string[] => document.texts(field) ?? []
  const ports = list('ports').flatMap(parsePorts)
  const request = {
    name: document.text('name') ?? '',
    ports,
    dns: list('dns'),
    search: list('search'),
    hosts: list('hosts'),
  }
  check(request)
  return request
}

/**
 * Reads `[address:]port:port[/tcp|udp|sctp]`; both may be ranges of the same length, such as `8000-8002:80-82`.
 *
 * @throws {Fault} `invalid-argument`
 */
export function parsePorts(text: string): PublishedPort[] {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]:|([0-9.]+):)?([\d-]+):([\d-]+)(?:\/(tcp|udp|sctp))?$/.exec(text)
  const [, ip6, ip4, host = '', inside = '', protocol = 'tcp'] = match ?? []
  const hostPorts = parseRange(host)
  const containerPorts = parseRange(inside)
  const hostIp = ip6 ?? ip4 ?? ''
  const fits = hostPorts.length > 0 && hostPorts.length === containerPorts.length
  if (!match || !fits || (hostIp !== '' && isIP(hostIp) === 0) || !isProtocol(protocol))
    throw new Fault(
      'invalid-argument',
      `Cannot publish ${JSON.stringify(text.slice(0, 64))}: write it as [address:]port:port[/tcp|udp|sctp], or with ranges of up to ${MAX_RANGE} ports`,
    )
  return hostPorts.map((hostPort, at) => ({ hostIp, hostPort, containerPort: containerPorts[at] ?? 0, protocol }))
}

/** As `parsePorts` reads it. */
export function formatPort({ hostIp, hostPort, containerPort, protocol }: PublishedPort): string {
  const address = hostIp === '' ? '' : isIPv4(hostIp) ? `${hostIp}:` : `[${hostIp}]:`
  return `${address}${hostPort}:${containerPort}/${protocol}`
}

function check({ name, dns, search, hosts }: NetworkRequest): void {
  const wrong = (what: string, value: string, form: string): Fault =>
    new Fault('invalid-argument', `Cannot use ${what} ${JSON.stringify(value.slice(0, 64))}: ${form}`)
  if (!NAME.test(name)) throw wrong('the network', name, 'give bridge, or the name of a CNI network')
  for (const server of dns) if (isIP(server) === 0) throw wrong('the name server', server, 'give an address')
  for (const domain of search) if (!DOMAIN.test(domain)) throw wrong('the search domain', domain, 'give a domain')
  for (const host of hosts) {
    const at = host.indexOf(':')
    if (at < 1 || !DOMAIN.test(host.slice(0, at)) || isIP(host.slice(at + 1)) === 0)
      throw wrong('the host', host, 'write it as name:address')
  }
}

function parseRange(text: string): number[] {
  const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text)
  if (!match) return []
  const [first, last] = [Number(match[1]), Number(match[2] ?? match[1])]
  if (first < 1 || last > MAX_PORT || last < first || last - first >= MAX_RANGE) return []
  return Array.from({ length: last - first + 1 }, (_, at) => first + at)
}

function isProtocol(text: string): text is Protocol {
  return text === 'tcp' || text === 'udp' || text === 'sctp'
}
