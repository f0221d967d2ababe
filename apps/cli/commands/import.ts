import { Command } from 'commander'
import { type ImportWish, importFrom } from '../archive/import-from.ts'
import type { Context } from '../context.ts'

/** `gantry import`: images out of a file, with all that can be said about it; as `ctr images import`. */
export function createCommand(context: Context): Command {
  return new Command('import')
    .description('Stores and unpacks the images of an archive.')
    .argument('<file>', 'the archive; - is standard input')
    .option('--platform <platform>', 'os/arch[/variant] (default: this host)')
    .option('--all-platforms', 'all platforms, and unpack none')
    .option('--base-name <prefix>', 'what stands before tags, and before all names that may come in')
    .option('--index-name <name>', 'a name for the whole archive')
    .option('--digests', 'name images by their digests too')
    .option('--compress-blobs', 'compress the plain layers of Docker archives')
    .option('--no-unpack', 'do not unpack')
    .option('-q, --quiet', 'print the names only')
    .action(async (file: string, wish: ImportWish, command: Command) => {
      await importFrom(file, wish, { command, context })
    })
}
