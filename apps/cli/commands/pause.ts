import { Command } from 'commander'
import type { Context } from '../context.ts'
import { eachTask } from '../run/each-task.ts'

/** `gantry pause`: freezes containers. */
export function createCommand(context: Context): Command {
  return new Command('pause')
    .description('Freezes all processes of containers, until unpause.')
    .argument('<container...>')
    .action((names: string[], _options: unknown, command: Command) =>
      eachTask({ names, command, context, verb: 'pause' }, (task, signal) => task.pause(signal)),
    )
}
