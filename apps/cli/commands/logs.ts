import { once } from 'node:events'
import { Command, InvalidArgumentError } from 'commander'
import type { Context } from '../context.ts'
import { findContainer } from '../find-container.ts'
import { logFile } from '../run/detached-log.ts'
import { taskOf } from '../run/end-task.ts'
import { readLog } from '../run/read-log.ts'
import { openSession, refuseRemote, type Session } from '../session.ts'

/** `gantry logs`: what a container wrote that ran detached. */
export function createCommand(context: Context): Command {
  return new Command('logs')
    .description(
      'Shows what a container wrote that was made with --log-uri file:///... and ran detached, on this host.',
    )
    .argument('<container>')
    .option('-f, --follow', 'go on until it ends')
    .option('-n, --tail <lines>', 'so many lines of what is there, or all', parseTail)
    .action(async (name: string, options: { follow?: boolean; tail?: number }, command: Command) => {
      await using session = openSession(command, context)
      refuseRemote(session, 'the output')
      const { client, signal, stdout } = session
      const container = await findContainer(client, name, signal)
      const goesOn = async () => options.follow === true && (await isRunning(session, container.id))
      for await (const chunk of readLog(logFile(container), { tail: options.tail, goesOn }, signal))
        if (!stdout.write(chunk)) await once(stdout, 'drain', { signal })
    })
}

function parseTail(text: string): number | undefined {
  if (text === 'all') return undefined
  if (/^\d{1,9}$/.test(text)) return Number(text)
  throw new InvalidArgumentError('give a number of lines, or all')
}

async function isRunning({ client, signal }: Session, id: string): Promise<boolean> {
  const task = await taskOf(client, id, signal)
  return task !== undefined && (await task.status(signal)).status !== 'stopped'
}
