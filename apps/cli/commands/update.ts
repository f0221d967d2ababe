import { Fault } from '@gantry/model/fault'
import { parseRestartPolicy } from '@gantry/model/restart'
import { Command } from 'commander'
import type { Context } from '../context.ts'
import { each } from '../each.ts'
import { findContainer } from '../find-container.ts'
import { parsing } from '../run/collecting.ts'
import { addLimits, type LimitOptions, limitsOf } from '../run/options.ts'
import { sharesNamespaces } from '../run/sharing.ts'
import { openSession } from '../session.ts'

type Options = LimitOptions & { readonly restart?: string }

/** `gantry update`: changes what `run` said. */
export function createCommand(context: Context): Command {
  return addLimits(new Command('update'))
    .description('Changes limits of containers, at once and for later starts, or their restart policy.')
    .argument('<container...>')
    .option('--restart <policy>', 'no, always, unless-stopped, on-failure[:times]', parsing(checkedPolicy))
    .action(async (names: string[], options: Options, command: Command) => {
      const { restart } = options
      const limits = limitsOf(options)
      if (restart === undefined && Object.keys(limits).length === 0)
        throw new Fault('invalid-argument', 'Cannot update without an option: say what is to change, such as -m 64m')
      await using session = openSession(command, context)
      const { client, signal, stdout } = session
      await each(names, session, async (name) => {
        const container = await findContainer(client, name, signal)
        if (restart !== undefined && restart !== 'no' && sharesNamespaces(container))
          throw new Fault('invalid-argument', `Cannot restart "${name}": it has namespaces of another container`)
        await client.containers.update(container.id, { limits, ...(restart !== undefined && { restart }) }, signal)
        stdout.write(`${name}\n`)
      })
    })
}

function checkedPolicy(text: string): string {
  parseRestartPolicy(text)
  return text
}
