import type { Task } from '@gantry/client/tasks'
import { Fault } from '@gantry/model/fault'
import type { Command } from 'commander'
import type { Context } from '../context.ts'
import { each } from '../each.ts'
import { findContainer } from '../find-container.ts'
import { openSession } from '../session.ts'
import { taskOf } from './end-task.ts'

export interface EachTask {
  readonly names: readonly string[]
  readonly command: Command
  readonly context: Context
  /** What is done, for who cannot have it. */
  readonly verb: string
}

/** Does something to what runs in each of these containers, and prints the names of those to which it was done. */
export async function eachTask(
  { names, command, context, verb }: EachTask,
  action: (task: Task, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  await using session = openSession(command, context)
  const { client, signal } = session
  await each(names, session, async (name) => {
    const task = await taskOf(client, (await findContainer(client, name, signal)).id, signal)
    if (!task || (await task.status(signal)).status === 'stopped')
      throw new Fault('failed-precondition', `Cannot ${verb} "${name}": it is not running`)
    await action(task, signal)
    session.stdout.write(`${name}\n`)
  })
}
