import { Fault, ignoring } from '@gantry/model/fault'
import { Command } from 'commander'
import type { Context } from '../context.ts'
import { each } from '../each.ts'
import { findContainer } from '../find-container.ts'
import { Exit } from '../report.ts'
import { detachKeysOption } from '../run/detach-keys.ts'
import { rememberExit } from '../run/exit-labels.ts'
import { runInForeground } from '../run/foreground.ts'
import { letEnd } from '../run/let-end.ts'
import { joinAnew } from '../run/sharing.ts'
import { isRunning, startDetached, takeBack } from '../run/start-detached.ts'
import { Left, streamsOf } from '../run/terminal.ts'
import { openSession, type Session } from '../session.ts'

const START_MS = 60_000
const CLEANUP_MS = 30_000

interface Options {
  readonly attach?: boolean
  readonly interactive?: boolean
  readonly detachKeys?: Uint8Array
}

/** `gantry start`: runs containers that were made, or have ended. */
export function createCommand(context: Context): Command {
  return new Command('start')
    .description('Runs containers that "gantry create" made, or that have ended.')
    .argument('<container...>')
    .option('-a, --attach', 'stay with it: its output is ours, its exit code too')
    .option('-i, --interactive', 'the same, and pass our input on')
    .addOption(detachKeysOption())
    .action(async (names: string[], options: Options, command: Command) => {
      const { attach = false, interactive = false } = options
      await using session = openSession(command, context)
      const [name = '', ...others] = names
      if (!attach && !interactive) {
        const { client, signal, stdout } = session
        return await each(names, session, async (name) => {
          await startDetached(session, await findContainer(client, name, signal))
          stdout.write(`${name}\n`)
        })
      }
      if (others.length > 0) throw new Fault('invalid-argument', 'Cannot attach to several containers: name one')
      process.exitCode = await startAttached(session, name, options)
    })
}

async function startAttached(
  session: Session,
  name: string,
  { interactive = false, detachKeys }: Options,
): Promise<number> {
  const { client, signal } = session
  const container = await findContainer(client, name, signal)
  if (await isRunning(session, container))
    throw new Fault('failed-precondition', `Cannot attach to "${name}": it runs already; use "gantry attach"`)
  await joinAnew(client, container, signal)
  await letEnd(client, container, signal) // its end is ours to see, not the node's to undo
  const tty = container.spec?.process.terminal ?? false
  const streams = streamsOf({ tty, interactive, detachKeys, stays: tty && interactive }, session)
  const { stdio, gate } = streams
  const task = await client.tasks.create(container, { stdio }, AbortSignal.timeout(START_MS))
  session.releaseSignals()
  let started = false
  try {
    const exit = await runInForeground(task, streams, () => {
      started = true
      gate.open()
    })
    const cleanup = AbortSignal.timeout(CLEANUP_MS)
    await ignoring('not-found', task.delete(cleanup))
    await ignoring('not-found', rememberExit(client, container.id, exit, cleanup))
    await gate.finish()
    return exit.status
  } catch (error) {
    gate.drop()
    if (error instanceof Left) throw new Exit(error.code, error)
    if (!started) await takeBack(session, container, task)
    throw error
  }
}
