import { Command } from 'commander'
import { type ImportWish, importFrom } from '../archive/import-from.ts'
import type { Context } from '../context.ts'

/** `gantry load`: images out of a file, as Docker's command of that name. */
export function createCommand(context: Context): Command {
  return new Command('load')
    .description(
      'Stores and unpacks the images of an archive: of `save`, of Docker, or an OCI layout; also compressed.',
    )
    .option('-i, --input <file>', 'the archive (default: standard input)')
    .option('--platform <platform>', 'os/arch[/variant] (default: this host)')
    .option('--all-platforms', 'all platforms, and unpack none')
    .option('-q, --quiet', 'print the names only')
    .action(async ({ input, ...wish }: ImportWish & { input?: string }, command: Command) => {
      await importFrom(input ?? '-', wish, { command, context })
    })
}
