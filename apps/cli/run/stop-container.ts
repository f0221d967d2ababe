import type { Container } from '@gantry/client/containers'
import { type Command, InvalidArgumentError } from 'commander'
import type { Session } from '../session.ts'
import { parseSignal } from '../signal.ts'
import { endTask, taskOf } from './end-task.ts'
import { letEnd } from './let-end.ts'

const DEFAULT_S = 10
const MAX_S = 24 * 3600
const STOP_SIGNAL_LABEL = 'io.containerd.image.config.stop-signal'

export function addTimeOption(command: Command): Command {
  return command.option('-t, --time <seconds>', 'how long to wait before SIGKILL', parseSeconds, DEFAULT_S)
}

/** Ends what runs of a container, with the signal its image wants, and SIGKILL when that does not help. */
export async function stopContainer(
  { client, signal }: Session,
  container: Container,
  { time }: { readonly time: number },
): Promise<void> {
  const { id, labels } = container
  await letEnd(client, container, signal)
  const task = await taskOf(client, id, signal)
  const number = parseSignal(labels[STOP_SIGNAL_LABEL] ?? 'SIGTERM')
  if (task) await endTask(task, { number, graceMs: time * 1000 }, signal)
}

function parseSeconds(text: string): number {
  const seconds = Number(text)
  if (/^\d+$/.test(text) && seconds <= MAX_S) return seconds
  throw new InvalidArgumentError(`give whole seconds up to ${MAX_S}`)
}
