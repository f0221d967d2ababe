import type { ProcessId } from '@gantry/linux/process'
import { Fault } from '@gantry/model/fault'

/**
 * The life of a task's init and of its execs:
 *
 *   init  create --> created --start--> running <--pause, resume--> paused
 *                       |                  |                          |
 *                       +------ exit ------+--------- exit -----------+--> stopped --delete--> (gone)
 *         create from a checkpoint --> added --start--> running ...
 *                                        +--------------------------------------delete--> (gone)
 *
 *   exec  exec --> added --start--> running --exit--> stopped --deleteProcess--> (gone)
 *                    +-- start fails --> failed -----------------deleteProcess--> (gone)
 *
 * Every exit comes once. A created task may be deleted: it is killed first.
 */
export type Life = Added | Failed | Alive | Stopped

/** An exec that is registered and has not been started, or an init that is to be restored. */
export interface Added {
  readonly status: 'added'
}
/** An exec whose start failed: clients see it as created, with pid 0, and have to delete it. */
export interface Failed {
  readonly status: 'failed'
}
export interface Alive {
  readonly status: 'created' | 'running' | 'paused'
  readonly live: Live
}
export interface Stopped {
  readonly status: 'stopped'
  readonly live: Live
  readonly exit: Exit
}

/** The processes that make one running thing. */
export interface Live {
  /** The container's own process; its start time is `0` when it was gone before anybody looked. */
  readonly process: ProcessId
  /** Holds the exit code: when it is gone without a word, the process counts as lost. */
  readonly monitor: ProcessId
  /** Keeps the input open until CloseIO: a holder of the FIFO, or the copier from it to the terminal. */
  readonly input: ProcessId | null
  /** Copies the terminal to the output; ends by itself when everything is copied. */
  readonly output: ProcessId | null
  /** The logger program that takes the output; absent in records of before there were any. */
  readonly logger?: ProcessId | null
}

export interface Exit {
  /** Exit code, or 128 + signal. */
  readonly status: number
  /** Milliseconds since 1970, with fractions. */
  readonly atMs: number
}

export type Status = Life['status']
export type Verb = 'start' | 'kill' | 'pause' | 'resume' | 'delete' | 'exec' | 'update' | 'checkpoint'

/** Which verbs a task answers in which state (behaviour facts, 9.1). */
const INIT_ALLOWS: Record<Verb, readonly Status[]> = {
  start: ['created', 'added'],
  kill: ['created', 'running', 'paused'],
  pause: ['running'],
  resume: ['paused'],
  delete: ['created', 'added', 'stopped'],
  exec: ['created', 'running'],
  update: ['created', 'running', 'paused'],
  checkpoint: ['running', 'paused'],
}

/** Which verbs an exec answers in which state. */
const EXEC_ALLOWS: Record<'start' | 'kill' | 'delete', readonly Status[]> = {
  start: ['added'],
  kill: ['running'],
  delete: ['added', 'failed', 'stopped'],
}

/**
 * Refuses what a task cannot do now. The words are containerd's: its clients match them.
 * @throws {Fault} `unknown`, as containerd's shim answers; `not-found` for a signal to what has ended
 */
export function checkInit(verb: Verb, status: Status): void {
  if (INIT_ALLOWS[verb].includes(status)) return
  if (verb === 'kill')
    throw status === 'added' ? new Fault('not-found', 'no such container: not found') : alreadyFinished()
  const state = status === 'added' ? 'created' : status
  if (verb === 'delete') throw new Fault('unknown', `failed to delete task: cannot delete a ${state} process`)
  if (verb === 'exec') throw new Fault('unknown', `cannot exec in a ${state} state`)
  if (verb === 'checkpoint' && state === 'created')
    throw new Fault('unknown', 'cannot checkpoint a task in created state')
  if (verb !== 'update' && state === 'created') throw new Fault('unknown', `cannot ${verb} task in created state`)
  const what = verb === 'start' || (verb === 'resume' && status === 'running') ? 'process' : 'container'
  throw new Fault('unknown', `cannot ${verb} a ${state} ${what}`)
}

/**
 * Refuses what an exec cannot do now.
 * @throws {Fault} `unknown`; for a signal `failed-precondition` before the start and `not-found` after the end
 */
export function checkExec(verb: keyof typeof EXEC_ALLOWS, status: Status): void {
  if (EXEC_ALLOWS[verb].includes(status)) return
  if (verb === 'kill' && status === 'added') throw new Fault('failed-precondition', 'process not created')
  if (verb === 'kill') throw alreadyFinished()
  throw new Fault('unknown', `cannot ${verb} a ${status} process`)
}

/** The same thing one state further. @throws {Error} a caller that did not check first */
export function move(life: Life, status: Alive['status']): Alive {
  return { status, live: liveOf(life) }
}

export function stop(life: Life, exit: Exit): Stopped {
  return { status: 'stopped', live: liveOf(life), exit }
}

export function isAliveLife(life: Life): life is Alive {
  return life.status === 'created' || life.status === 'running' || life.status === 'paused'
}

export function isStopped(life: Life): life is Stopped {
  return life.status === 'stopped'
}

/** 0 before there is a process, and for one that could not be started. */
export function pidOf(life: Life): number {
  return life.status === 'added' || life.status === 'failed' ? 0 : life.live.process.pid
}

function alreadyFinished(): Fault {
  return new Fault('not-found', 'process already finished: not found')
}

function liveOf(life: Life): Live {
  if (life.status === 'added' || life.status === 'failed')
    throw new Error(`A process that is ${life.status} has no pid`)
  return life.live
}
