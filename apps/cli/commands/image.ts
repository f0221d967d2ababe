import { Command } from 'commander'
import type { Context } from '../context.ts'
import { pruneCommand } from '../prune/prune-command.ts'

/** `gantry image prune` */
export function createCommand(context: Context): Command {
  const description = 'Removes images that no container was made of: those without a tag, with -a all.'
  const prune = pruneCommand(context, { description, containers: false, images: true })
  return new Command('image').description('Tidies images up.').addCommand(prune)
}
