import { Fault } from '@gantry/model/fault'
import { Command } from 'commander'
import type { Context } from '../context.ts'
import { each } from '../each.ts'
import { findContainer } from '../find-container.ts'
import { taskOf } from '../run/end-task.ts'
import { rememberedExit } from '../run/exit-labels.ts'
import { openSession } from '../session.ts'

/** `gantry wait`: waits until containers have ended. */
export function createCommand(context: Context): Command {
  return new Command('wait')
    .description('Waits until containers have ended, one after the other, and prints their exit codes.')
    .argument('<container...>')
    .action(async (names: string[], _options: unknown, command: Command) => {
      await using session = openSession(command, context)
      const { client, signal, stdout } = session
      await each(names, session, async (name) => {
        const container = await findContainer(client, name, signal)
        const task = await taskOf(client, container.id, signal)
        const exit = task ? await task.wait(signal) : rememberedExit(container)
        if (!exit) throw new Fault('failed-precondition', `Cannot wait for "${name}": it was never started`)
        stdout.write(`${exit.status}\n`)
      })
    })
}
