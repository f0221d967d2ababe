import { normalizeReference } from '@gantry/model/reference'
import { Command } from 'commander'
import type { Context } from '../context.ts'
import { type PullWish, pullImage } from '../pull/pull-image.ts'
import { openSession, printJson } from '../session.ts'

/** `gantry pull`: fetches an image and unpacks it. */
export function createCommand(context: Context): Command {
  return new Command('pull')
    .description('Fetches an image from a registry and unpacks it. Short names are completed as Docker does.')
    .argument('<reference>', 'such as alpine:3 or registry.example.com/team/app:1')
    .option('--plain-http', 'speak HTTP to the registry, without TLS')
    .option('--platform <platform>', 'os/arch[/variant] (default: this host)')
    .option('--all-platforms', 'fetch it for all platforms, unpack it for one')
    .option('--no-unpack', 'fetch only')
    .option('-q, --quiet', 'print the name only')
    .action(async (reference: string, options: PullWish & { quiet?: boolean }, command: Command) => {
      const full = normalizeReference(reference).text
      await using session = openSession(command, context)
      const quiet = options.quiet || session.json
      const image = await pullImage(session, full, { ...options, out: quiet ? undefined : context.stdout })
      const { digest } = image.target
      if (session.json) printJson(session, { name: image.name, digest, mediaType: image.target.mediaType })
      else context.stdout.write(options.quiet ? `${image.name}\n` : `${image.name} ${digest}\n`)
    })
}
