import { Command } from 'commander'
import { type ExportWish, exportTo } from '../archive/export-to.ts'
import type { Context } from '../context.ts'

/** `gantry save`: images into a file, as Docker's command of that name. */
export function createCommand(context: Context): Command {
  return new Command('save')
    .description('Writes images into an archive that `load` of Gantry and Docker, skopeo and others read.')
    .argument('<image...>')
    .option('-o, --output <file>', 'the archive (default: standard output)')
    .option('--platform <platform>', 'os/arch[/variant] (default: this host)')
    .option('--all-platforms', 'all platforms of the images')
    .action(async (images: string[], { output, ...wish }: ExportWish & { output?: string }, command: Command) => {
      await exportTo(output ?? '-', images, wish, { command, context })
    })
}
