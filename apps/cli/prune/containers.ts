import type { Container } from '@gantry/client/containers'
import type { TaskInfo } from '@gantry/client/tasks'
import { isFault } from '@gantry/model/fault'
import type { Labels } from '@gantry/model/labels'
import { shouldRestart } from '@gantry/model/restart'
import { taskOf } from '../run/end-task.ts'
import { rememberedExit } from '../run/exit-labels.ts'
import type { Session } from '../session.ts'

const ABOUT_TO_START_MS = 60_000 // between its record and its task

/** Removes the containers that have ended, or never ran. @returns the ids of those that went */
export async function pruneContainers(
  { client, signal }: Pick<Session, 'client' | 'signal'>,
  passes: (labels: Labels) => boolean,
): Promise<string[]> {
  const [containers, tasks] = await Promise.all([client.containers.list([], signal), client.tasks.list(signal)])
  const byId = new Map(tasks.map((task) => [task.containerId, task]))
  const gone: string[] = []
  for (const container of containers) {
    const { id } = container
    if (!passes(container.labels) || !isOver(container, byId.get(id), new Date())) continue
    try {
      await (await taskOf(client, id, signal))?.delete(signal) // refused when it runs again
      await client.containers.delete(id, {}, signal)
      gone.push(id)
    } catch (error) {
      if (!isFault(error, 'not-found') && !isFault(error, 'failed-precondition')) throw error
    }
  }
  return gone
}

/** Nobody waits for it to run, neither the node nor the `run` that is making it. */
export function isOver(container: Container, task: TaskInfo | undefined, now: Date): boolean {
  if (task && task.status !== 'stopped') return false
  const exit = rememberedExit(container)
  if (shouldRestart(container.labels, task?.exitStatus ?? exit?.status)) return false
  return task !== undefined || exit !== undefined || now.getTime() - container.createdAt.getTime() > ABOUT_TO_START_MS
}
