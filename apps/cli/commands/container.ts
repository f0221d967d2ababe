import { Command } from 'commander'
import type { Context } from '../context.ts'
import { pruneCommand } from '../prune/prune-command.ts'

/** `gantry container prune` */
export function createCommand(context: Context): Command {
  const description = 'Removes containers that have ended, with all they wrote, and those that were made and never ran.'
  const prune = pruneCommand(context, { description, containers: true, images: false })
  return new Command('container').description('Tidies containers up.').addCommand(prune)
}
