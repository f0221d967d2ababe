import { Fault } from '@gantry/model/fault'
import { parseNamespace } from '@gantry/model/namespace'
import { Command } from 'commander'
import type { Context } from '../context.ts'
import { each } from '../each.ts'
import { table } from '../format/table.ts'
import { openSession, printJson } from '../session.ts'

/** `gantry namespaces`: list them, make one, remove empty ones. */
export function createCommand(context: Context): Command {
  const namespaces = new Command('namespaces').description('Lists, creates and removes namespaces.')
  namespaces
    .command('ls', { isDefault: true })
    .description('list all')
    .action((_options: unknown, command: Command) => list(command, context))
  namespaces
    .command('create')
    .description('create one')
    .argument('<name>')
    .argument('[labels...]', 'key=value')
    .action(async (name: string, labels: string[], _options: unknown, command: Command) => {
      await using session = openSession(command, context)
      const namespace = { name: parseNamespace(name), labels: Object.fromEntries(labels.map(parseLabel)) }
      await session.client.services.namespaces.create({ namespace }, session.client.call(session.signal))
    })
  namespaces
    .command('rm')
    .description('remove empty ones')
    .argument('<name...>')
    .action(async (names: string[], _options: unknown, command: Command) => {
      await using session = openSession(command, context)
      await each(names, session, async (name) => {
        await session.client.services.namespaces.delete({ name }, session.client.call(session.signal))
        context.stdout.write(`${name}\n`)
      })
    })
  return namespaces
}

async function list(command: Command, context: Context): Promise<void> {
  await using session = openSession(command, context)
  const { client, signal } = session
  const { namespaces } = await client.services.namespaces.list({}, client.call(signal))
  if (session.json)
    return printJson(
      session,
      namespaces.map(({ name, labels }) => ({ name, labels })),
    )
  const rows = namespaces.map(({ name, labels }) => [
    name,
    Object.entries(labels)
      .map(([key, value]) => `${key}=${value}`)
      .join(','),
  ])
  context.stdout.write(table(['NAME', 'LABELS'], rows))
}

/** @throws {Fault} `invalid-argument` */
export function parseLabel(text: string): [string, string] {
  const at = text.indexOf('=')
  if (at <= 0) throw new Fault('invalid-argument', `Cannot use label ${JSON.stringify(text)}: write it as key=value`)
  return [text.slice(0, at), text.slice(at + 1)]
}
