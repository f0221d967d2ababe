import { constants } from 'node:os'
import { Fault } from '@gantry/model/fault'
import { Command } from 'commander'
import type { Context } from '../context.ts'
import { each } from '../each.ts'
import { findContainer } from '../find-container.ts'
import { taskOf } from '../run/end-task.ts'
import { letEnd } from '../run/let-end.ts'
import { openSession } from '../session.ts'
import { parseSignal } from '../signal.ts'

const { SIGKILL, SIGTERM, SIGINT, SIGQUIT } = constants.signals
/** Who sends one of these wants it to end, not to start again. */
const ENDING: readonly number[] = [SIGKILL, SIGTERM, SIGINT, SIGQUIT]

/** `gantry kill`: sends a signal, SIGKILL unless told. */
export function createCommand(context: Context): Command {
  return new Command('kill')
    .description('Sends a signal to containers.')
    .argument('<container...>')
    .option('-s, --signal <signal>', 'name or number', 'KILL')
    .action(async (names: string[], options: { signal: string }, command: Command) => {
      const number = parseSignal(options.signal)
      await using session = openSession(command, context)
      const { client, signal } = session
      await each(names, session, async (name) => {
        const container = await findContainer(client, name, signal)
        const { id } = container
        const task = await taskOf(client, id, signal)
        if (!task || (await task.status(signal)).status === 'stopped')
          throw new Fault('failed-precondition', `Cannot kill "${name}": it is not running`)
        if (ENDING.includes(number)) await letEnd(client, container, signal)
        await task.kill(number, {}, signal)
        session.stdout.write(`${name}\n`)
      })
    })
}
