import { Command } from 'commander'
import type { Context } from '../context.ts'
import { each } from '../each.ts'
import { findContainer } from '../find-container.ts'
import { addTimeOption, stopContainer } from '../run/stop-container.ts'
import { openSession } from '../session.ts'

/** `gantry stop`: asks containers to end, and makes them. */
export function createCommand(context: Context): Command {
  return addTimeOption(new Command('stop'))
    .description(
      'Ends containers: with the signal their image wants, or SIGTERM; with SIGKILL when that does not help.',
    )
    .argument('<container...>')
    .action(async (names: string[], options: { time: number }, command: Command) => {
      await using session = openSession(command, context)
      const { client, signal, stdout } = session
      await each(names, session, async (name) => {
        await stopContainer(session, await findContainer(client, name, signal), options)
        stdout.write(`${name}\n`)
      })
    })
}
