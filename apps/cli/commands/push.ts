import { normalizeReference } from '@gantry/model/reference'
import { Command } from 'commander'
import type { Context } from '../context.ts'
import { imageName } from '../image-name.ts'
import { loginOf } from '../keyring.ts'
import { openDisplay } from '../pull/show.ts'
import { openSession, printJson } from '../session.ts'

interface Options {
  readonly plainHttp?: boolean
  readonly platform?: string
  readonly quiet?: boolean
}

/** `gantry push`: brings an image to a registry. */
export function createCommand(context: Context): Command {
  return new Command('push')
    .description('Pushes an image to the registry that its name says, or to another reference.')
    .argument('<image>', 'such as registry.example.com/team/app:1')
    .argument('[reference]', 'where to, when that is not the name of the image')
    .option('--plain-http', 'speak HTTP to the registry, without TLS')
    .option('--platform <platform>', 'only os/arch[/variant] of an image for several platforms')
    .option('-q, --quiet', 'print the reference only')
    .action(async (image: string, to: string | undefined, options: Options, command: Command) => {
      await using session = openSession(command, context)
      const { client, signal } = session
      const { plainHttp, platform } = options
      const name = await imageName(client, image, signal)
      const reference = normalizeReference(to ?? name).text
      const quiet = options.quiet || session.json
      {
        using display = quiet ? undefined : openDisplay(context.stdout)
        const credentials = loginOf(context)
        const wish = {
          ...(credentials && { credentials }),
          ...(plainHttp && { plainHttp }),
          ...(platform !== undefined && { platform }),
        }
        await client.images.push(name, { reference, options: wish }, (report) => display?.update(report), signal)
      }
      if (session.json) printJson(session, { name, reference })
      else context.stdout.write(`${reference}\n`)
    })
}
