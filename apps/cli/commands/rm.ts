import { Fault } from '@gantry/model/fault'
import { Command } from 'commander'
import type { Context } from '../context.ts'
import { each } from '../each.ts'
import { findContainer } from '../find-container.ts'
import { taskOf } from '../run/end-task.ts'
import { removeContainer } from '../run/remove-container.ts'
import { openSession, type Session } from '../session.ts'

/** `gantry rm`: removes containers that have ended; with -f ends them first. */
export function createCommand(context: Context): Command {
  return new Command('rm')
    .description('Removes containers with all they wrote.')
    .argument('<container...>')
    .option('-f, --force', 'kill those that run')
    .action(async (names: string[], { force = false }: { force?: boolean }, command: Command) => {
      await using session = openSession(command, context)
      await each(names, session, (name) => remove(session, name, force))
    })
}

async function remove(session: Session, name: string, force: boolean): Promise<void> {
  const { client, signal } = session
  const container = await findContainer(client, name, signal)
  const { id } = container
  const status = await (await taskOf(client, id, signal))?.status(signal)
  if (status && status.status !== 'stopped' && !force)
    throw new Fault('failed-precondition', `Cannot remove "${name}": it is ${status.status}; stop it first, or use -f`)
  await removeContainer(client, container, signal)
  session.stdout.write(`${name}\n`)
}
