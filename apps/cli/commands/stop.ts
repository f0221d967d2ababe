import { Command, InvalidArgumentError } from 'commander'
import type { Context } from '../context.ts'
import { each } from '../each.ts'
import { findContainer } from '../find-container.ts'
import { endTask, taskOf } from '../run/end-task.ts'
import { letEnd } from '../run/let-end.ts'
import { openSession } from '../session.ts'
import { parseSignal } from '../signal.ts'

const DEFAULT_S = 10
const MAX_S = 24 * 3600
const STOP_SIGNAL_LABEL = 'io.containerd.image.config.stop-signal'

/** `gantry stop`: asks containers to end, and makes them. */
export function createCommand(context: Context): Command {
  return new Command('stop')
    .description(
      'Ends containers: with the signal their image wants, or SIGTERM; with SIGKILL when that does not help.',
    )
    .argument('<container...>')
    .option('-t, --time <seconds>', 'how long to wait before SIGKILL', parseSeconds, DEFAULT_S)
    .action(async (names: string[], { time }: { time: number }, command: Command) => {
      await using session = openSession(command, context)
      const { client, signal } = session
      await each(names, session, async (name) => {
        const container = await findContainer(client, name, signal)
        const { id, labels } = container
        await letEnd(client, container, signal)
        const task = await taskOf(client, id, signal)
        const number = parseSignal(labels[STOP_SIGNAL_LABEL] ?? 'SIGTERM')
        if (task) await endTask(task, { number, graceMs: time * 1000 }, signal)
        session.stdout.write(`${name}\n`)
      })
    })
}

function parseSeconds(text: string): number {
  const seconds = Number(text)
  if (/^\d+$/.test(text) && seconds <= MAX_S) return seconds
  throw new InvalidArgumentError(`give whole seconds up to ${MAX_S}`)
}
