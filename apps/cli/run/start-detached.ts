import { constants } from 'node:os'
import type { Container } from '@gantry/client/containers'
import type { Task } from '@gantry/client/tasks'
import { ignoring } from '@gantry/model/fault'
import { RESTART_POLICY } from '@gantry/model/restart'
import type { Session } from '../session.ts'
import { detachedStdio } from './detached-log.ts'
import { endTask, taskOf } from './end-task.ts'
import { joinAnew } from './sharing.ts'

const START_MS = 60_000
const CLEANUP_MS = 30_000

/** One that runs already is left as it is. */
export async function startDetached(session: Session, container: Container): Promise<void> {
  const { client, signal } = session
  if (await isRunning(session, container)) return
  await joinAnew(client, container, signal)
  const stdio = detachedStdio(container)
  const task = await client.tasks.create(container, { stdio }, AbortSignal.timeout(START_MS))
  try {
    // before the start, so that not even a short life is missed
    if (isWatched(container)) await client.containers.want(container.id, 'running', signal)
    await task.start(AbortSignal.timeout(START_MS))
  } catch (error) {
    await takeBack(session, container, task)
    throw error
  }
}

/** Does it run? What is left of an earlier run is taken away; its record keeps the exit code until the next one. */
export async function isRunning({ client, signal }: Session, { id }: Container): Promise<boolean> {
  const task = await taskOf(client, id, signal)
  const status = (await task?.status(signal))?.status
  if (status === 'running' || status === 'paused' || status === 'pausing') return true
  if (task) await ignoring('not-found', task.delete(signal))
  return false
}

/** A container whose start failed stays, without a task. Failing to do so must not hide why. */
export async function takeBack({ client }: Session, container: Container, task: Task): Promise<void> {
  const cleanup = AbortSignal.timeout(CLEANUP_MS)
  if (isWatched(container)) await client.containers.want(container.id, 'stopped', cleanup).catch(() => undefined)
  await endTask(task, { number: constants.signals.SIGKILL, graceMs: 0 }, cleanup).catch(() => undefined)
  await task.delete(cleanup).catch(() => undefined)
}

function isWatched({ labels }: Container): boolean {
  return RESTART_POLICY in labels
}
