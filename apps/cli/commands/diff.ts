import { Command } from 'commander'
import type { Context } from '../context.ts'
import { findContainer } from '../find-container.ts'
import { openSession, printJson, refuseRemote } from '../session.ts'
import { printable } from '../text.ts'

const LETTERS = { added: 'A', changed: 'C', deleted: 'D' } as const

/** `gantry diff`: what a container has written. */
export function createCommand(context: Context): Command {
  return new Command('diff')
    .description('Lists what a container has added (A), changed (C) and deleted (D). On the node, as root.')
    .argument('<container>')
    .action(async (name: string, _options: unknown, command: Command) => {
      await using session = openSession(command, context)
      refuseRemote(session, 'what it wrote')
      const { client, signal, stdout } = session
      const changes = await client.containers.changes((await findContainer(client, name, signal)).id, signal)
      if (session.json) return printJson(session, changes)
      for (const { kind, path } of changes) stdout.write(`${LETTERS[kind]} ${printable(path)}\n`)
    })
}
