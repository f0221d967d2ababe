import { Command } from 'commander'
import type { Context } from '../context.ts'
import { formatAge } from '../format/age.ts'
import { formatSize } from '../format/size.ts'
import { table } from '../format/table.ts'
import { imageName } from '../image-name.ts'
import { openSession, printJson } from '../session.ts'

const MAX_STEP = 60 // characters

/** `gantry history`: how an image came to be. */
export function createCommand(context: Context): Command {
  return new Command('history')
    .description(
      'Shows the steps that made an image, the latest first, with the size of their layers as they are stored.',
    )
    .argument('<image>')
    .option('--no-trunc', 'steps in full')
    .action(async (reference: string, { trunc }: { trunc: boolean }, command: Command) => {
      await using session = openSession(command, context)
      const { client, signal, stdout } = session
      const steps = await client.images.history(await imageName(client, reference, signal), signal)
      if (session.json) return printJson(session, steps)
      const cut = (text: string) => (trunc && text.length > MAX_STEP ? `${text.slice(0, MAX_STEP - 1)}…` : text)
      const now = new Date()
      const rows = steps.map(({ created, createdBy, size, comment }) => [
        ...[created ? formatAge(created, now) : '-', cut(createdBy) || '-', formatSize(size), comment],
      ])
      stdout.write(table(['CREATED', 'CREATED BY', 'SIZE', 'COMMENT'], rows))
    })
}
