import { Command } from 'commander'
import type { Context } from '../context.ts'
import { eachTask } from '../run/each-task.ts'

/** `gantry unpause`: lets frozen containers go on. */
export function createCommand(context: Context): Command {
  return new Command('unpause')
    .description('Lets containers go on that pause has frozen.')
    .argument('<container...>')
    .action((names: string[], _options: unknown, command: Command) =>
      eachTask({ names, command, context, verb: 'unpause' }, (task, signal) => task.resume(signal)),
    )
}
