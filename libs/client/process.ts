import { constants } from 'node:os'
import { setTimeout } from 'node:timers/promises'
import { Status, type Process as WireProcess } from '@gantry/api/containerd/types/task/task_pb'
import { isZeroTime } from '@gantry/model/clock'
import { Fault, isFault } from '@gantry/model/fault'
import type { Stdio } from './stdio.ts'
import { toDate, type Wire } from './wire.ts'

const ASK_AGAIN_MS = 100 // between two waits while the service restarts
const CLOSE_STDIN_MS = 10_000
const DRAINING_MS = 1000 // after which it is looked whether the process has ended at all

export type TaskStatus = 'unknown' | 'created' | 'running' | 'stopped' | 'paused' | 'pausing'

export interface TaskInfo {
  readonly containerId: string
  readonly execId: string // '' for the init process
  readonly pid: number
  readonly status: TaskStatus
  readonly terminal: boolean
  readonly exitStatus: number // 0 until stopped
  readonly exitedAt: Date | undefined
}

export interface Exit {
  /** The exit code, or 128 + the signal that ended it. */
  readonly status: number
  readonly at: Date
}

/** One process of a container: its init, or an exec. */
export interface Process {
  readonly containerId: string
  readonly execId: string // '' for the init process
  /** Returns the pid. */
  start(signal: AbortSignal): Promise<number>
  /**
   * Waits for the exit. May be called before start and after the exit, until delete. Survives a restart of the service.
   * Call it before start, so that no exit is missed; it is answered later.
   */
  wait(signal: AbortSignal): Promise<Exit>
  /** @param what the signal to send, by name or number; with `all` to every process of the container */
  kill(what: NodeJS.Signals | number, options: { readonly all?: boolean }, signal: AbortSignal): Promise<void>
  resize(size: { readonly columns: number; readonly rows: number }, signal: AbortSignal): Promise<void>
  /** The process sees the end of its input. */
  closeStdin(signal: AbortSignal): Promise<void>
  status(signal: AbortSignal): Promise<TaskInfo>
  /** Resolves when all that it wrote is copied; for one that has ended. */
  drained(): Promise<void>
  /**
   * Closes our ends of its input and output; it goes on. What the first process of a container writes waits for whoever
   * attaches next, 64 KiB at most, then the process waits; to another nobody can attach.
   */
  leave(): void
  /** Waits until the output is copied, deletes the process and its FIFOs. @throws {Fault} when it still runs */
  delete(signal: AbortSignal): Promise<Exit>
}

const STATUS: Readonly<Record<number, TaskStatus>> = {
  [Status.CREATED]: 'created',
  [Status.RUNNING]: 'running',
  [Status.STOPPED]: 'stopped',
  [Status.PAUSED]: 'paused',
  [Status.PAUSING]: 'pausing',
}

/** The calls of one process. `io` is its stdio as far as this client knows it, and is closed by delete. */
export function createProcess(wire: Wire, id: { containerId: string; execId: string }, io: Stdio | undefined): Process {
  const { tasks } = wire.services
  const closeStdin = async (signal: AbortSignal) => {
    await tasks.closeIO({ ...id, stdin: true }, wire.call(signal))
  }
  const status: Process['status'] = async (signal) => {
    const { process } = await tasks.get(id, wire.call(signal))
    if (!process) throw new Fault('internal', 'Cannot read the process: the reply is empty')
    return { ...toInfo(process), ...id }
  }
  return {
    ...id,
    closeStdin,
    wait: (signal) => wait(wire, id, signal),
    async start(signal) {
      const { pid } = await tasks.start(id, wire.call(signal))
      // a process that is gone by then has no input to end
      io?.started(() => void closeStdin(AbortSignal.timeout(CLOSE_STDIN_MS)).catch(() => undefined))
      return pid
    },
    async kill(what, { all = false }, signal) {
      const number = typeof what === 'number' ? what : constants.signals[what]
      await tasks.kill({ ...id, signal: number, all }, wire.call(signal))
    },
    async resize({ columns, rows }, signal) {
      await tasks.resizePty({ ...id, width: columns, height: rows }, wire.call(signal))
    },
    status,
    async drained() {
      await io?.drained()
    },
    leave() {
      if (id.execId === '') io?.leave()
      else io?.[Symbol.dispose]()
    },
    async delete(signal) {
      if (io) await drain(io, status, signal)
      const gone = await (id.execId === ''
        ? tasks.delete(id, wire.call(signal))
        : tasks.deleteProcess(id, wire.call(signal)))
      await io?.drained()
      io?.[Symbol.dispose]()
      return { status: gone.exitStatus, at: toDate(gone.exitedAt) }
    },
  }
}

/** Waits until the output of a process that has ended is copied; one that runs may write on for ever. */
async function drain(io: Stdio, status: Process['status'], signal: AbortSignal): Promise<void> {
  const over = new AbortController()
  const either = AbortSignal.any([signal, over.signal])
  const refuse = async (): Promise<never> => {
    for (;;) {
      await setTimeout(DRAINING_MS, undefined, { signal: either }).catch(() => undefined) // the call says so
      const { execId, containerId, ...now } = await status(either)
      if (isLive(now.status))
        throw new Fault('failed-precondition', `Cannot delete process "${execId || containerId}": it is ${now.status}`)
    }
  }
  await Promise.race([io.drained(), refuse()]).finally(() => over.abort())
}

/** Is there a process? */
export function isLive(status: TaskStatus): boolean {
  return status === 'created' || status === 'running' || status === 'paused' || status === 'pausing'
}

/** The exit is kept until delete, so asking a second time misses nothing. */
async function wait(wire: Wire, id: { containerId: string; execId: string }, signal: AbortSignal): Promise<Exit> {
  for (;;) {
    try {
      const { exitStatus, exitedAt } = await wire.services.tasks.wait(id, wire.call(signal))
      return { status: exitStatus, at: toDate(exitedAt) }
    } catch (error) {
      const restarted = isFault(error, 'unavailable') || isFault(error, 'cancelled')
      if (!restarted || signal.aborted) throw error
      await setTimeout(ASK_AGAIN_MS, undefined, { signal }).catch(() => undefined) // the next call says so
    }
  }
}

/** What the server says of one process. */
export function toInfo(process: WireProcess): TaskInfo {
  const { containerId, pid, terminal, exitStatus, exitedAt } = process
  return {
    // the two fields hold the container and the exec in some replies, only `id` is set in others
    containerId: containerId === '' ? process.id : containerId,
    execId: containerId === '' || containerId === process.id ? '' : process.id,
    pid,
    status: STATUS[process.status] ?? 'unknown',
    terminal,
    exitStatus,
    exitedAt: isZeroTime(exitedAt) ? undefined : toDate(exitedAt),
  }
}
