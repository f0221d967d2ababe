import { constants } from 'node:os'
import type { GantryClient } from '@gantry/client/client'
import type { Container } from '@gantry/client/containers'
import { ignoring } from '@gantry/model/fault'
import { endTask, taskOf } from './end-task.ts'
import { letEnd } from './let-end.ts'

/** Kills what runs of a container, then removes it with all it wrote. */
export async function removeContainer(client: GantryClient, container: Container, signal: AbortSignal): Promise<void> {
  const { id } = container
  await letEnd(client, container, signal)
  const task = await taskOf(client, id, signal) // the node may have started it again
  if (task) {
    await endTask(task, { number: constants.signals.SIGKILL, graceMs: 0 }, signal)
    await ignoring('not-found', task.delete(signal))
  }
  await client.containers.delete(id, {}, signal)
}
