import type { Command } from 'commander'
import type { Context } from './context.ts'

const DEFAULT_ADDRESS = '/run/gantry/gantry.sock'
const DEFAULT_NAMESPACE = 'default'

/** Options that every command takes, before or behind its name. */
export interface Globals {
  readonly address: string
  readonly namespace: string
  readonly json: boolean
}

export function addGlobals(command: Command): Command {
  return command
    .option('--address <sock>', `socket of the node (GANTRY_ADDRESS, default: ${DEFAULT_ADDRESS})`)
    .option('--namespace <ns>', `namespace (GANTRY_NAMESPACE, default: ${DEFAULT_NAMESPACE})`)
    .option('--json', 'output for machines')
}

/** Behind the command counts more than before it, then comes the environment. */
export function globalsOf(command: Command, { env }: Pick<Context, 'env'>): Globals {
  const given: { address?: string; namespace?: string; json?: boolean } = {}
  for (let at: Command | null = command; at; at = at.parent) {
    const { address, namespace, json } = at.opts<typeof given>()
    if (address !== undefined) given.address ??= address
    if (namespace !== undefined) given.namespace ??= namespace
    if (json !== undefined) given.json ??= json
  }
  return {
    address: given.address ?? nonEmpty(env.GANTRY_ADDRESS) ?? DEFAULT_ADDRESS,
    namespace: given.namespace ?? nonEmpty(env.GANTRY_NAMESPACE) ?? DEFAULT_NAMESPACE,
    json: given.json ?? false,
  }
}

function nonEmpty(text: string | undefined): string | undefined {
  return text === '' ? undefined : text
}
