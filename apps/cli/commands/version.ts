import { VERSION } from '@gantry/service/version'
import { Command } from 'commander'
import type { Context } from '../context.ts'
import { globalsOf } from '../globals.ts'
import { openSession, printJson } from '../session.ts'

/** `gantry version`: of this command line and of the node; the first is told even when there is no node. */
export function createCommand(context: Context): Command {
  return new Command('version')
    .description('Shows the versions of client and server.')
    .action(async (_options: unknown, command: Command) => {
      const client = { version: VERSION, node: process.version }
      if (!globalsOf(command, context).json)
        context.stdout.write(`Client:\n  Version:  ${client.version}\n  Node.js:  ${client.node}\n`)
      await using session = openSession(command, context)
      const { version, revision } = await session.client.services.version.version(
        {},
        session.client.call(session.signal),
      )
      if (session.json) printJson(session, { client, server: { version, revision } })
      else context.stdout.write(`Server:\n  Version:  ${version}\n  Revision: ${revision}\n`)
    })
}
