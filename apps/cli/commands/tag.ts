import { normalizeReference } from '@gantry/model/reference'
import { Command } from 'commander'
import type { Context } from '../context.ts'
import { imageName } from '../image-name.ts'
import { openSession, printJson } from '../session.ts'

/** `gantry tag`: gives an image a further name. */
export function createCommand(context: Context): Command {
  return new Command('tag')
    .description('Gives an image a further name, which until now another image may have had.')
    .argument('<source>')
    .argument('<target>')
    .action(async (source: string, target: string, _options: unknown, command: Command) => {
      await using session = openSession(command, context)
      const name = await imageName(session.client, source, session.signal)
      const image = await session.client.images.tag(name, normalizeReference(target).text, session.signal)
      if (session.json) printJson(session, { name: image.name, digest: image.target.digest })
    })
}
