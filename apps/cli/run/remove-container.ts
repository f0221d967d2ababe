import { constants } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import type { GantryClient } from '@gantry/client/client'
import type { Container } from '@gantry/client/containers'
import { ignoring, isFault } from '@gantry/model/fault'
import { endTask, taskOf } from './end-task.ts'
import { letEnd } from './let-end.ts'

const TRIES = 10
const PAUSE_MS = 100

/** Kills what runs of a container, then removes it with all it wrote. */
export async function removeContainer(client: GantryClient, container: Container, signal: AbortSignal): Promise<void> {
  await letEnd(client, container, signal)
  for (let left = TRIES; ; left--) {
    try {
      await removeOnce(client, container.id, signal)
      return
    } catch (error) {
      const isTaken = isFault(error, 'failed-precondition') || isFault(error, 'not-found')
      if (!isTaken || left === 1) throw error // a restart that was on its way makes a task, and takes it back
      await sleep(PAUSE_MS, undefined, { signal })
    }
  }
}

async function removeOnce(client: GantryClient, id: string, signal: AbortSignal): Promise<void> {
  const task = await taskOf(client, id, signal)
  if (task) {
    await endTask(task, { number: constants.signals.SIGKILL, graceMs: 0 }, signal)
    await ignoring('not-found', task.delete(signal))
  }
  await client.containers.delete(id, {}, signal)
}
