import { normalizeReference } from '@gantry/model/reference'
import { Command } from 'commander'
import { parseChanges } from '../commit/parse-change.ts'
import type { Context } from '../context.ts'
import { findContainer } from '../find-container.ts'
import { collect } from '../run/collecting.ts'
import { openSession, printJson } from '../session.ts'

interface Options {
  readonly change: readonly string[]
  readonly message?: string
  readonly author?: string
  readonly pause: boolean
}

/** `gantry commit`: what a container wrote becomes an image. */
export function createCommand(context: Context): Command {
  return new Command('commit')
    .description(
      'Makes an image of the image of a container and what the container has written. What it was told to run is not part of ' +
        'it: say that with --change.',
    )
    .argument('<container>')
    .argument('<reference>', 'the name of the image')
    .option(
      '-c, --change <instruction>',
      'CMD, ENTRYPOINT, ENV, LABEL, WORKDIR, USER or EXPOSE as in a Dockerfile (repeatable)',
      collect,
      [],
    )
    .option('-m, --message <text>', 'what it is, for gantry history')
    .option('-a, --author <text>', 'who made it')
    .option('--no-pause', 'do not freeze it meanwhile')
    .action(async (name: string, target: string, options: Options, command: Command) => {
      const change = parseChanges(options.change)
      const reference = normalizeReference(target).text
      const { message, author, pause } = options
      await using session = openSession(command, context)
      const { client, signal, stdout } = session
      const { id } = await findContainer(client, name, signal)
      const said = { ...(message !== undefined && { message }), ...(author !== undefined && { author }) }
      const image = await client.containers.commit(id, { reference, change, pause, ...said }, signal)
      if (session.json) printJson(session, { name: image.name, digest: image.target.digest })
      else stdout.write(`${image.name} ${image.target.digest}\n`)
    })
}
