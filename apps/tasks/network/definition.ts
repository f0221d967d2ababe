import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { isSystemError } from '@gantry/linux/system'
import { Fault } from '@gantry/model/fault'
import { z } from 'zod'

/** What the operator decides about networks. */
export interface NetworkConfig {
  /** Folders of CNI plugins, parted by colons. */
  readonly plugins: string
  /** Folder of further networks: `*.conflist`. */
  readonly definitions: string
  /** Of the network `bridge`: the name of its device, and its addresses. */
  readonly bridge: string
  readonly subnet: string
  /** The same of IPv6, if it has any. */
  readonly subnet6?: string | undefined
  /** Where plugins keep which addresses are taken. */
  readonly leases: string
}

const Plugin = z.looseObject({
  type: z
    .string()
    .min(1)
    .regex(/^[^/]+$/),
})
const Definition = z.looseObject({
  cniVersion: z.string().default('1.0.0'),
  name: z.string().min(1),
  plugins: z.array(Plugin).min(1).max(32),
})

/** A CNI network: its plugins run one after the other, each with the result of the one before. */
export type Definition = z.infer<typeof Definition>
export type Plugin = z.infer<typeof Plugin>

/**
 * The network of this name: one that the operator has defined, else our own for `bridge`.
 *
 * @throws {Fault} `not-found`
 * @see https://github.com/containernetworking/cni/blob/main/SPEC.md#section-1-network-configuration-format
 */
export function findNetwork(name: string, config: NetworkConfig): Definition {
  const defined = definitionsIn(config.definitions)
  const found = defined.find((definition) => definition.name === name)
  if (found) return found
  if (name === 'bridge') return bridgeOf(config)
  const others = ['bridge', ...defined.map((definition) => definition.name)].join(', ')
  throw new Fault(
    'not-found',
    `There is no network ${JSON.stringify(name)}: choose one of ${others}; others are defined in ${config.definitions}`,
  )
}

/** Reads one that we have written. */
export function parseDefinition(value: unknown): Definition {
  return Definition.parse(value)
}

/** Addresses behind a bridge, hidden behind the node's own; ports that are asked for lead in. */
function bridgeOf({ bridge, subnet, subnet6, leases }: NetworkConfig): Definition {
  const ranges = [[{ subnet }], ...(subnet6 === undefined ? [] : [[{ subnet: subnet6 }]])]
  const routes = [{ dst: '0.0.0.0/0' }, ...(subnet6 === undefined ? [] : [{ dst: '::/0' }])]
  return {
    cniVersion: '1.0.0',
    name: 'bridge',
    plugins: [
      {
        ...{ type: 'bridge', bridge, isGateway: true, ipMasq: true, hairpinMode: true },
        ipam: { type: 'host-local', ranges, routes, dataDir: leases },
      },
      { type: 'portmap', capabilities: { portMappings: true } },
      { type: 'firewall' }, // a host that forwards nothing unless told (Docker makes it so) forwards this
    ],
  }
}

function definitionsIn(folder: string): Definition[] {
  const names = filesIn(folder).filter((name) => name.endsWith('.conflist'))
  return names.toSorted().flatMap((name) => {
    try {
      return [Definition.parse(JSON.parse(readFileSync(join(folder, name), 'utf8')))]
    } catch {
      return [] // somebody else's, and not for us to judge
    }
  })
}

function filesIn(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch (error) {
    if (isSystemError(error, 'ENOENT', 'ENOTDIR')) return []
    throw error
  }
}
