import { ignoring, isFault } from '@gantry/model/fault'
import { normalizeReference } from '@gantry/model/reference'
import { Command } from 'commander'
import type { Context } from '../context.ts'
import { each } from '../each.ts'
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
        // as it stands first: `ctr` gives images any name
        const exact = await ignoring('not-found', images.get(reference, session.signal))
        const name = exact ? reference : fullName(reference)
        await images.delete(name, {}, session.signal)
        session.stdout.write(`${name}\n`)
      })
    })
}

function fullName(reference: string): string {
  try {
    return normalizeReference(reference).text
  } catch (error) {
    if (isFault(error, 'invalid-argument')) return reference
    throw error
  }
}
