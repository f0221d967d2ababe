import { normalizeReference } from '@gantry/model/reference'
import { Command } from 'commander'
import type { Context } from '../context.ts'
import { globalsOf } from '../globals.ts'
import { loginFor } from '../keyring.ts'
import { askRegistries } from '../registry/explain.ts'
import { openSession, printJson } from '../session.ts'
import { printable } from '../text.ts'

/** `gantry registry`: how registries are reached. */
export function createCommand(context: Context): Command {
  const registry = new Command('registry').description('Shows how registries are reached.')
  registry
    .command('explain')
    .description('ask each endpoint that a pull would try, and say why it would')
    .argument('<reference>', 'such as alpine:3')
    .option('--plain-http', 'speak HTTP to the registry, without TLS')
    .action(async (reference: string, options: { plainHttp?: boolean }, command: Command) => {
      await explain(reference, options, { command, context })
    })
  return registry
}

async function explain(
  short: string,
  { plainHttp }: { plainHttp?: boolean },
  { command, context }: { command: Command; context: Context },
): Promise<void> {
  await using session = openSession(command, context)
  const { signal } = session
  const { text: reference, host } = normalizeReference(short)
  const credentials = await loginFor(context, host, signal)
  const { address } = globalsOf(command, context)
  const endpoints = await askRegistries(address, { reference, plainHttp, credentials }, signal)
  if (session.json)
    return printJson(
      session,
      endpoints.map(({ $typeName: _, ...endpoint }) => endpoint),
    )
  context.stdout.write(`${reference}\n`)
  for (const [at, { url, from, capabilities, credentials, answer }] of endpoints.entries()) {
    const lines = [
      `${at + 1}. ${url}`,
      `   from:         ${from}`,
      `   for:          ${capabilities.join(', ')}`,
      `   credentials:  ${credentials === '' ? 'not asked for' : credentials}`,
      `   answer:       ${answer}`,
    ]
    context.stdout.write(`${lines.map(printable).join('\n')}\n`)
  }
}
