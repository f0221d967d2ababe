import { join } from 'node:path'
import { Fault } from '@gantry/model/fault'
import { loadConfig, publicSocket } from '@gantry/service/config'
import { Command } from 'commander'
import { z } from 'zod'
import type { Context } from '../context.ts'
import { globalsOf } from '../globals.ts'
import { type Lack, lacksOf, readHost, unwritable } from '../up/host.ts'
import { renderJson, renderPretty } from '../up/log-line.ts'
import { runNode } from '../up/node.ts'
import { createPrinter } from '../up/printer.ts'

const ONE_SIGNAL_MS = 500

interface Options {
  readonly root?: string
  readonly state?: string
  readonly config?: string
  readonly logLevel?: string
}

/** `gantry up`: a whole node in the foreground. */
export function createCommand(context: Context): Command {
  return new Command('up')
    .summary('run a node in the foreground')
    .description('Runs a node in the foreground: nats-server, unless one is configured, and all services.')
    .option('--root <dir>', 'what must survive a reboot (default: /var/lib/gantry)')
    .option('--state <dir>', 'sockets and what a reboot clears (default: /run/gantry)')
    .option('--config <file>', 'configuration (default: /etc/gantry/gantry.toml, if there)')
    .option('--log-level <level>', 'of the services: debug, info, warn, error')
    .action(async (options: Options, command: Command) => {
      await up(options, { ...context, json: globalsOf(command, context).json })
    })
}

async function up(options: Options, context: Context & { json: boolean }): Promise<void> {
  const host = readHost(context.env.PATH ?? '')
  refuse(lacksOf({ ...host, has: () => true }, { nats: false }).slice(0, host.uid === 0 ? 0 : 1)) // folders need root
  const config = loadConfig('cli', z.object({}), options)
  refuse(lacksOf(host, { nats: config.nats.url === undefined }))
  for (const folder of [config.root, config.state]) {
    const reason = unwritable(folder)
    if (reason !== undefined) throw new Fault('failed-precondition', `Cannot make files in ${folder}: ${reason}`)
  }
  const printer = createPrinter(context.stdout, {
    render: context.json ? renderJson : renderPretty,
    json: context.json,
  })
  await runNode(
    {
      root: config.root,
      state: config.state,
      socket: publicSocket(options, config),
      ownNats: config.nats.url === undefined,
      apps: join(import.meta.dirname, '..', '..'),
      runtime: process.execPath,
      args: [
        ...['--root', config.root, '--state', config.state],
        ...(options.config === undefined ? [] : ['--config', options.config]),
        ...(options.logLevel === undefined ? [] : ['--log-level', options.logLevel]),
      ],
      printer,
    },
    stopSignals(),
  )
}

function refuse(lacks: readonly Lack[]): void {
  if (lacks.length === 0) return
  const lines = lacks.map(({ what, remedy }) => `${what} (${remedy})`)
  throw new Fault('failed-precondition', `Cannot run a node on this host: ${lines.join('; ')}`)
}

/**
 * The first signal asks for an orderly stop, a later one for one at once. `npm start` passes a Ctrl-C on that the terminal
 * has sent us already: those two count as one.
 */
function stopSignals(): { stop: AbortSignal; now: AbortSignal } {
  const stop = new AbortController()
  const now = new AbortController()
  let first = 0
  const onSignal = (): void => {
    if (!stop.signal.aborted) first = performance.now()
    else if (performance.now() - first > ONE_SIGNAL_MS) now.abort()
    stop.abort()
  }
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, onSignal)
  return { stop: stop.signal, now: now.signal }
}
