import { Fault } from '@gantry/model/fault'
import { Command } from 'commander'
import type { Context } from '../context.ts'
import { findContainer } from '../find-container.ts'
import { Exit } from '../report.ts'
import { detachKeysOption } from '../run/detach-keys.ts'
import { taskOf } from '../run/end-task.ts'
import { stayWith } from '../run/foreground.ts'
import { Left, streamsOf } from '../run/terminal.ts'
import { openSession, type Session } from '../session.ts'

interface Options {
  readonly stdin: boolean
  readonly sigProxy: string
  readonly detachKeys?: Uint8Array
}

/** `gantry attach`: the input and output of a container that runs become ours. Its exit code is ours. */
export function createCommand(context: Context): Command {
  return new Command('attach')
    .description(
      'Joins our input and output to those of a container that runs: one made with -d -i, or whose client has left it.',
    )
    .argument('<container>')
    .option('--no-stdin', 'do not pass our input on')
    .option('--sig-proxy <bool>', 'pass signals on, where there is no terminal', 'true')
    .addOption(detachKeysOption())
    .action(async (name: string, options: Options, command: Command) => {
      await using session = openSession(command, context)
      process.exitCode = await attach(session, name, options)
    })
}

async function attach(session: Session, name: string, { stdin, sigProxy, detachKeys }: Options): Promise<number> {
  const { client, signal } = session
  const { id, spec } = await findContainer(client, name, signal)
  const status = (await (await taskOf(client, id, signal))?.status(signal))?.status
  if (status !== 'running')
    throw new Fault('failed-precondition', `Cannot attach to "${name}": it is ${status ?? 'not running'}`)
  const tty = spec?.process.terminal ?? false
  if (tty && stdin && !session.stdin.isTTY)
    throw new Fault('invalid-argument', `Cannot attach to "${name}": it has a terminal, we have none; use --no-stdin`)
  const proxies = !tty && sigProxy !== 'false'
  const streams = streamsOf({ tty, interactive: stdin, detachKeys, stays: true, proxies }, session)
  const task = await client.tasks.attach(id, { stdio: streams.stdio }, signal)
  session.releaseSignals()
  streams.gate.open()
  try {
    const exit = await stayWith(task, streams, (resize) => resize(1)) // a new size, and then ours, makes it draw again
    await task.drained()
    await streams.gate.finish()
    return exit.status
  } catch (error) {
    throw error instanceof Left ? new Exit(error.code, error) : error
  }
}
