import type { Command } from 'commander'
import type { Context } from './context.ts'

const DEFAULT_ADDRESS = '/run/gantry/gantry.sock'
const DEFAULT_NAMESPACE = 'default'

/** Options that every command takes, before or behind its name. */
export interface Globals {
  /** A socket, or `tcp://host:port`. */
  readonly address: string
  /** PEM files for TCP; empty where nothing names them. */
  readonly tls: { readonly ca: string; readonly cert: string; readonly key: string }
  readonly namespace: string
  readonly json: boolean
}

interface Given {
  readonly address?: string
  readonly namespace?: string
  readonly tlsCa?: string
  readonly tlsCert?: string
  readonly tlsKey?: string
  readonly json?: boolean
}

export function addGlobals(command: Command): Command {
  return command
    .optionsGroup('Options of every command:')
    .option('--address <addr>', `socket of the node, or tcp://host:port (GANTRY_ADDRESS, default: ${DEFAULT_ADDRESS})`)
    .option('--namespace <ns>', `namespace (GANTRY_NAMESPACE, default: ${DEFAULT_NAMESPACE})`)
    .option('--tls-ca <file>', 'for TCP: who signs the certificate of the node (GANTRY_TLS_CA)')
    .option('--tls-cert <file>', 'for TCP: our certificate (GANTRY_TLS_CERT)')
    .option('--tls-key <file>', 'for TCP: its key (GANTRY_TLS_KEY)')
    .option('--json', 'output for machines')
    .optionsGroup('Options:')
}

/** Behind the command counts more than before it, then comes the environment. */
export function globalsOf(command: Command, { env }: Pick<Context, 'env'>): Globals {
  let given: Given = {}
  for (let at: Command | null = command; at; at = at.parent) given = { ...at.opts<Given>(), ...given }
  return {
    address: given.address ?? nonEmpty(env.GANTRY_ADDRESS) ?? DEFAULT_ADDRESS,
    namespace: given.namespace ?? nonEmpty(env.GANTRY_NAMESPACE) ?? DEFAULT_NAMESPACE,
    tls: {
      ca: given.tlsCa ?? env.GANTRY_TLS_CA ?? '',
      cert: given.tlsCert ?? env.GANTRY_TLS_CERT ?? '',
      key: given.tlsKey ?? env.GANTRY_TLS_KEY ?? '',
    },
    json: given.json ?? false,
  }
}

function nonEmpty(text: string | undefined): string | undefined {
  return text === '' ? undefined : text
}
