import { Command } from 'commander'
import type { Context } from '../context.ts'
import { pruneCommand } from '../prune/prune-command.ts'

/** `gantry system prune` */
export function createCommand(context: Context): Command {
  const description =
    'Removes containers that have ended, then images that no container was made of: those without a tag, with -a all.'
  const prune = pruneCommand(context, { description, containers: true, images: true })
  return new Command('system').description('Tidies a namespace up.').addCommand(prune)
}
