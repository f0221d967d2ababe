import { constants } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import type { GantryClient } from '@gantry/client/client'
import type { Exit, Task } from '@gantry/client/tasks'
import { Fault, ignoring } from '@gantry/model/fault'

const END_MS = 30_000 // for SIGKILL to be obeyed: storage that hangs may keep a process

/** The task of a container, or undefined. */
export function taskOf(client: GantryClient, id: string, signal: AbortSignal): Promise<Task | undefined> {
  return ignoring('not-found', client.tasks.get(id, signal))
}

/**
 * Ends a task with `number` and, when it still runs after `graceMs`, with SIGKILL; waits for its end. One that has ended
 * is left as it is.
 */
export async function endTask(
  task: Task,
  how: { number: number; graceMs: number },
  signal: AbortSignal,
): Promise<Exit> {
  const { status } = await task.status(signal)
  const waiting = new AbortController()
  const exited = task.wait(AbortSignal.any([signal, waiting.signal]))
  exited.catch(() => undefined)
  try {
    if (status === 'stopped') return await exited
    await send(task, how.number, signal)
    if (status === 'paused') await task.resume(signal).catch(() => undefined) // a frozen process obeys nothing
    const grace = how.number === constants.signals.SIGKILL ? END_MS : how.graceMs
    const exit = (await within(exited, grace)) ?? (await killAndWait(task, exited, signal))
    if (exit) return exit
    throw new Fault('deadline-exceeded', `Cannot end "${task.containerId}": it does not obey SIGKILL`)
  } finally {
    waiting.abort()
  }
}

async function killAndWait(task: Task, exited: Promise<Exit>, signal: AbortSignal): Promise<Exit | undefined> {
  await send(task, constants.signals.SIGKILL, signal)
  return within(exited, END_MS)
}

/** A process that is gone by now has obeyed. */
async function send(task: Task, number: number, signal: AbortSignal): Promise<void> {
  await ignoring('not-found', ignoring('failed-precondition', task.kill(number, {}, signal)))
}

async function within(exited: Promise<Exit>, ms: number): Promise<Exit | undefined> {
  const timer = new AbortController()
  const late = sleep(ms, undefined, { signal: timer.signal }).catch(() => undefined)
  return Promise.race([exited, late]).finally(() => timer.abort())
}
