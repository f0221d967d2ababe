import { Fault } from '@gantry/model/fault'
import { type NetworkRequest, type PublishedPort, parsePorts } from '@gantry/model/network'
import type { Command } from 'commander'
import { collect, collecting, parsing } from './collecting.ts'
import { type NetworkChoice, parseNetwork } from './isolation.ts'

/** What the options say of the network of a container or sandbox. */
export interface NetworkOptions {
  readonly network?: NetworkChoice
  readonly publish: readonly (readonly PublishedPort[])[]
  readonly dns: readonly string[]
  readonly dnsSearch: readonly string[]
  readonly addHost: readonly string[]
}

export function addNetworkOptions(command: Command): Command {
  return command
    .option(
      '--net, --network <mode>',
      'bridge, host, none, container:name, ns:/path, or a CNI network',
      parsing(parseNetwork),
    )
    .option(
      '-p, --publish <ports>',
      '[address:]port:port[/udp], a port of the node that leads to the container (repeatable)',
      collecting(parsePorts),
      [],
    )
    .option('--dns <address>', 'name server (repeatable)', collect, [])
    .option('--dns-search <domain>', 'where short names are looked up (repeatable)', collect, [])
    .option('--add-host <host>', 'name:address for /etc/hosts (repeatable)', collect, [])
}

/** The network that the node is to make. @throws {Fault} `invalid-argument` for what only such a network has */
export function networkOf({ network, publish, dns, dnsSearch, addHost }: NetworkOptions): NetworkRequest | undefined {
  const ports = publish.flat()
  if (network !== undefined && isMade(network))
    return { name: network.name, ports, dns, search: dnsSearch, hosts: addHost }
  const given = Object.entries({ '-p': ports, '--dns': dns, '--dns-search': dnsSearch, '--add-host': addHost })
  const odd = given.find(([, values]) => values.length > 0)?.[0]
  if (odd === undefined) return undefined
  throw new Fault('invalid-argument', `Cannot use ${odd}: it has no network of its own; add --net bridge`)
}

export function isMade(network: NetworkChoice): network is { readonly name: string } {
  return typeof network === 'object' && 'name' in network
}
