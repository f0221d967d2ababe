import type { Chain } from '@gantry/api/gantry/collection/v1/collection_pb'
import { ignoring, isFault } from '@gantry/model/fault'
import { normalizeReference } from '@gantry/model/reference'
import { Command } from 'commander'
import { kindOf, type OpenCollector, openCollector } from '../collection/collector.ts'
import type { Context } from '../context.ts'
import { openSession, printJson, type Session } from '../session.ts'
import { printable } from '../text.ts'

/** `gantry why`: what keeps a thing on disk. */
export function createCommand(context: Context): Command {
  return new Command('why')
    .description('Shows what keeps a thing from being collected, in all namespaces.')
    .argument('<thing>', 'a digest or the beginning of one, a snapshot, an image, an upload')
    .action(async (id: string, _options, command: Command) => {
      await using session = openSession(command, context)
      await using open = openCollector(session)
      const chains = await ask(open, id, session)
      if (session.json) return printJson(session, chains.map(toJson))
      session.stdout.write(chains.map(linesOf).join('\n'))
    })
}

/** Also by the short name of an image. */
async function ask({ collector }: OpenCollector, id: string, { signal }: Session): Promise<Chain[]> {
  try {
    return (await collector.why({ id }, { signal })).chains
  } catch (error) {
    const name = isFault(error, 'not-found') ? nameOf(id) : undefined
    const chains = name !== undefined && (await ignoring('not-found', collector.why({ id: name }, { signal })))?.chains
    if (!chains) throw error
    return chains
  }
}

function nameOf(text: string): string | undefined {
  try {
    const { text: name } = normalizeReference(text)
    return name === text ? undefined : name
  } catch (error) {
    if (isFault(error)) return undefined
    throw error
  }
}

function linesOf({ thing, links }: Chain): string {
  const head = `${kindOf(thing)} ${thing?.id} in ${thing?.namespace}\n`
  const steps = links.map(({ thing, how }, depth) => `${'  '.repeat(depth + 1)}${kindOf(thing)} ${thing?.id}: ${how}`)
  const lines = steps.length > 0 ? steps : ['  nothing keeps it: the next collection takes it']
  return printable(head.trimEnd()).concat('\n', ...lines.map((line) => `${printable(line)}\n`))
}

function toJson({ thing, links }: Chain) {
  return {
    namespace: thing?.namespace,
    kind: thing?.kind,
    id: thing?.id,
    keptBy: links.map(({ thing, how }) => ({ kind: thing?.kind, id: thing?.id, how })),
  }
}
