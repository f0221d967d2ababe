import { Fault } from '@gantry/model/fault'
import { accountOf } from './cgroup.ts'
import { events } from './events.ts'
import { type Process, putProcess, putTask } from './registry.ts'
import { removeImages } from './restore.ts'
import type { Restore } from './runtime/runtime.ts'
import { checkExec, checkInit, type Live, move, pidOf } from './task.ts'
import type { TasksParts } from './tasks.ts'

const SIGKILL = 9

/** Lets a created init go on. @returns its pid */
export async function startInit(parts: TasksParts, init: Process): Promise<number> {
  const { runtime, rows, write } = parts
  checkInit('start', init.life.status)
  if (init.task.restore) return restoreInit(parts, init, init.task.restore)
  await runtime.start(init.task)
  const running = move(init.life, 'running')
  await write((emit) => {
    putProcess(rows, init, running)
    events.started(init, emit, pidOf(running))
  })
  init.life = running
  return pidOf(running)
}

/** What cannot be restored stays, to be started again or deleted. @returns the pid of init */
async function restoreInit(parts: TasksParts, init: Process, from: Restore): Promise<number> {
  const { runtime, rows, write, boot, endings } = parts
  const { task } = init
  const live = await runtime.restore(init, from)
  const life = { status: 'running', live } as const
  const change = { ...accountOf(pidOf(life), task.runtime), restore: null }
  try {
    await write((emit) => {
      putTask(rows, task, boot, change)
      putProcess(rows, init, life)
      events.started(init, emit, pidOf(life))
    })
  } catch (error) {
    runtime.discard(task.bundle.processDir('')) // nobody would ever hear of it
    throw error
  }
  Object.assign(task, change)
  init.life = life
  removeImages(from)
  endings.follow(init)
  return pidOf(life)
}

/** An exec that cannot be started stays, as clients expect, to be deleted; who waits for it goes on at once. @returns its pid */
export async function startExec(parts: TasksParts, exec: Process): Promise<number> {
  const { runtime, rows, write, endings } = parts
  const { task, execId, spec } = exec
  checkExec('start', exec.life.status)
  if (task.ending) throw new Fault('failed-precondition', `Cannot start exec "${execId}": the task has stopped`)
  checkInit('exec', task.init.life.status)
  let live: Live | undefined
  try {
    live = await runtime.exec(exec, spec ?? '')
    const running = { status: 'running', live } as const
    await write((emit) => {
      putProcess(rows, exec, running)
      events.started(exec, emit, pidOf(running))
    })
    exec.life = running
  } catch (error) {
    await failExec(parts, exec, live)
    throw error
  }
  endings.follow(exec)
  return pidOf(exec.life)
}

/** @param live what runs all the same, and could not be recorded: nobody would ever hear of it */
async function failExec({ runtime, rows, write }: TasksParts, exec: Process, live: Live | undefined): Promise<void> {
  const { task, execId } = exec
  if (live) {
    await runtime.kill(exec, live, SIGKILL).catch(() => undefined)
    runtime.discard(task.bundle.processDir(execId))
  }
  exec.life = { status: 'failed' }
  exec.ended.resolve()
  await write(() => putProcess(rows, exec, exec.life)).catch(() => undefined) // why it failed is the better answer
}
