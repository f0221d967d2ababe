import { Fault } from '@gantry/model/fault'
import { normalizeReference } from '@gantry/model/reference'
import { Command } from 'commander'
import type { Context } from '../context.ts'
import { createContainer } from '../run/create-container.ts'
import { isShared } from '../run/isolation.ts'
import { addCreateOptions, type RunOptions } from '../run/options.ts'
import { openSession, printJson } from '../session.ts'

/** `gantry create`: makes a container that `gantry start` runs. */
export function createCommand(context: Context): Command {
  return addCreateOptions(new Command('create'))
    .description(
      'Makes a container and prints its id; "gantry start" runs it. The image is pulled when it is not there.',
    )
    .option('-i, --interactive', 'its input and output wait for who attaches')
    .argument('<image>')
    .argument('[command...]', "instead of the image's")
    .passThroughOptions()
    .action(async (image: string, args: string[], options: RunOptions, command: Command) => {
      const { network, ipc, pid } = options
      if ([network, ipc, pid].some(isShared))
        throw new Fault(
          'invalid-argument',
          'Cannot use container: with create: what is shared may be gone at the start',
        )
      await using session = openSession(command, context)
      const { text } = normalizeReference(image)
      const { id } = await createContainer(session, { image: text, args, options: { ...options, detach: true } })
      if (session.json) printJson(session, { id })
      else session.stdout.write(`${id}\n`)
    })
}
