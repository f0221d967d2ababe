import { Command } from 'commander'
import type { Context } from '../context.ts'
import { each } from '../each.ts'
import { findContainer } from '../find-container.ts'
import { startDetached } from '../run/start-detached.ts'
import { addTimeOption, stopContainer } from '../run/stop-container.ts'
import { openSession } from '../session.ts'

/** `gantry restart`: `stop`, then `start`. */
export function createCommand(context: Context): Command {
  return addTimeOption(new Command('restart'))
    .description('Ends containers as "gantry stop" does, and starts them again.')
    .argument('<container...>')
    .action(async (names: string[], options: { time: number }, command: Command) => {
      await using session = openSession(command, context)
      const { client, signal, stdout } = session
      await each(names, session, async (name) => {
        const container = await findContainer(client, name, signal)
        await stopContainer(session, container, options)
        await startDetached(session, container)
        stdout.write(`${name}\n`)
      })
    })
}
