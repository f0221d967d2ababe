import { Command } from 'commander'
import { type ExportWish, exportTo } from '../archive/export-to.ts'
import type { Context } from '../context.ts'

/** `gantry export`: images into a file, with all that can be said about it; as `ctr images export`. */
export function createCommand(context: Context): Command {
  return new Command('export')
    .description('Writes images into an archive: an OCI layout that is a Docker archive too.')
    .argument('<file>', 'the archive; - is standard output')
    .argument('<image...>')
    .option('--platform <platform>', 'os/arch[/variant] (default: this host)')
    .option('--all-platforms', 'all platforms of the images')
    .option('--skip-manifest-json', 'an OCI layout only')
    .option('--skip-non-distributable', 'without layers that may not be handed on')
    .action(async (file: string, images: string[], wish: ExportWish, command: Command) => {
      await exportTo(file, images, wish, { command, context })
    })
}
