import type { Process as Service } from '@gantry/service/process'
import { events } from './events.ts'
import { type Process, putProcess, putTask, type Task, type Write } from './registry.ts'
import type { Rows } from './rows.ts'
import type { Runtime } from './runtime/runtime.ts'
import { type Exit, isAliveLife, type Life, pidOf, stop } from './task.ts'

const EXEC_GRACE_MS = 5000 // how long the end of init waits for the ends of its execs
const RETRY_MS = 1000
const SIGKILL = 9
const SIGNALLED = 128 // exit codes from here on are those of signals
const LOST: number = SIGNALLED + SIGKILL

export interface EndingParts {
  readonly rows: Rows
  readonly write: Write
  readonly runtime: Runtime
  /** A container has ended: whoever made something for it, or wants it to go on, hears of it. */
  readonly onEnd: (namespace: string, id: string) => void
  readonly boot: string
  readonly now: () => number
  readonly log: Service['log']
}

/** Follows processes to their end and makes it known exactly once. */
export interface Endings {
  /** From now on the end of a live process is noticed; one that ended before, too. */
  follow(process: Process): void
}

export function createEndings(parts: EndingParts): Endings {
  const { runtime, log } = parts
  return {
    follow(process) {
      const { task, execId, stdio, life } = process
      if (!isAliveLife(life)) return
      process.watch?.[Symbol.dispose]()
      process.watch = runtime.watch({ task, execId, stdio }, life.live, {
        onExit: (exit) => void endAtLast(parts, process, exit),
        onOom: () =>
          void tellOom(parts, task).catch((err) => log.error({ err, task: task.id }, 'Cannot record an OOM')),
      })
    },
  }
}

/** An end that cannot be recorded (the disk is full) is tried again: somebody waits for it. */
async function endAtLast(parts: EndingParts, process: Process, exit: Exit): Promise<void> {
  try {
    await end(parts, process, exit)
  } catch (err) {
    parts.log.error({ err, task: process.task.id, exec: process.execId }, 'Cannot record an end: trying again')
    setTimeout(() => void endAtLast(parts, process, exit), RETRY_MS).unref()
  }
}

/** Init's end comes after those of all its execs, and after a want of memory that led to it. */
async function end(parts: EndingParts, process: Process, exit: Exit): Promise<void> {
  if (process.execId === '') await endContainer(parts, process.task)
  await process.exclusive(() => record(parts, process, exit))
}

async function record({ rows, write, runtime, onEnd }: EndingParts, process: Process, exit: Exit): Promise<void> {
  const { life } = process
  if (!isAliveLife(life)) return // told already
  const stopped = stop(life, exit)
  await write((emit) => {
    putProcess(rows, process, stopped)
    if (wasStarted(life, exit)) events.started(process, emit, pidOf(life))
    events.exited(process, emit, exit)
  })
  process.life = stopped
  process.watch?.[Symbol.dispose]() // an exec that was given up may go on
  process.watch = undefined
  process.ended.resolve()
  runtime.endInput(life.live)
  if (process.execId === '') onEnd(process.task.namespace, process.task.id)
}

/** A start that we were killed in the middle of may be over before we are back: before it, only a signal ends a process. */
function wasStarted(life: Life, exit: Exit): boolean {
  return life.status === 'created' && exit.status < SIGNALLED
}

/**
 * Ends what outlived init: a frozen rest is thawed to take its signals, what is left in the cgroup is killed (in a pid
 * namespace of its own the kernel has done so), and every exec gets its end before init does.
 */
async function endContainer(parts: EndingParts, task: Task): Promise<void> {
  const { runtime, now } = parts
  task.ending = true
  const { life } = task.init
  if (life.status === 'paused') await runtime.resume(task).catch(() => undefined)
  if (task.sharesPids && isAliveLife(life)) await runtime.killAll(task, life.live, SIGKILL)
  const execs = [...task.execs.values()]
  await Promise.all(
    execs.map(async (exec) => {
      await exec.exclusive(async () => undefined) // a start that is under way decides first
      if (!isAliveLife(exec.life)) return
      void runtime.kill(exec, exec.life.live, SIGKILL).catch(() => undefined) // its shim may be gone
      const lost = (): void => void endAtLast(parts, exec, { status: LOST, atMs: now() })
      const timer = setTimeout(lost, EXEC_GRACE_MS)
      await exec.ended.promise
      clearTimeout(timer)
    }),
  )
}

async function tellOom({ rows, write, boot }: EndingParts, task: Task): Promise<void> {
  await task.init.exclusive(async () => {
    if (task.oomSeen) return
    await write((emit) => {
      putTask(rows, task, boot, { oomSeen: true })
      events.oom(task, emit)
    })
    task.oomSeen = true
  })
}
