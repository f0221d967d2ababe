import { Fault } from '@gantry/model/fault'
import { Command } from 'commander'
import type { Context } from '../context.ts'
import { findContainer } from '../find-container.ts'
import { table } from '../format/table.ts'
import { taskOf } from '../run/end-task.ts'
import { openSession, printJson } from '../session.ts'

/** `gantry top`: the processes of a container, by their pids on the host of the node. */
export function createCommand(context: Context): Command {
  return new Command('top')
    .description('Lists the processes of a container, by their pids on the host.')
    .argument('<container>')
    .action(async (name: string, _options: unknown, command: Command) => {
      await using session = openSession(command, context)
      const { client, signal } = session
      const task = await taskOf(client, (await findContainer(client, name, signal)).id, signal)
      if (!task || (await task.status(signal)).status === 'stopped')
        throw new Fault('failed-precondition', `Cannot list the processes of "${name}": it is not running`)
      const pids = await task.pids(signal)
      if (session.json) return printJson(session, pids)
      const rows = pids.map(({ pid, execId }) => [String(pid), execId ?? ''])
      session.stdout.write(table(['PID', 'EXEC'], rows))
    })
}
