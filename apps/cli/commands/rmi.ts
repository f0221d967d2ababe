import { Command } from 'commander'
import type { Context } from '../context.ts'
import { each } from '../each.ts'
import { imageName } from '../image-name.ts'
import { openSession } from '../session.ts'

/** `gantry rmi`: takes names of images away; what nothing refers to any more is collected later. */
export function createCommand(context: Context): Command {
  return new Command('rmi')
    .description('Removes images by name.')
    .argument('<reference...>')
    .action(async (references: string[], _options: unknown, command: Command) => {
      await using session = openSession(command, context)
      const { images } = session.client
      await each(references, session, async (reference) => {
        const name = await imageName(session.client, reference, session.signal)
        await images.delete(name, {}, session.signal)
        session.stdout.write(`${name}\n`)
      })
    })
}
