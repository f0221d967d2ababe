import { Fault } from '@gantry/model/fault'
import type { Containers } from './containers.ts'
import type { StdioOptions } from './stdio.ts'
import type { Wire } from './wire.ts'

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
  /** @param number the signal's number */
  kill(number: number, options: { readonly all?: boolean }, signal: AbortSignal): Promise<void>
  resize(size: { readonly columns: number; readonly rows: number }, signal: AbortSignal): Promise<void>
  /** The process sees the end of its input. */
  closeStdin(signal: AbortSignal): Promise<void>
  status(signal: AbortSignal): Promise<TaskInfo>
  /** Waits until the output is copied, deletes the process and its FIFOs. @throws {Fault} when it still runs */
  delete(signal: AbortSignal): Promise<Exit>
}

export interface Task extends Process {
  /** Registers a further process; nothing runs before its start. */
  exec(options: ExecOptions, signal: AbortSignal): Promise<Process>
  pause(signal: AbortSignal): Promise<void>
  resume(signal: AbortSignal): Promise<void>
  pids(signal: AbortSignal): Promise<{ readonly pid: number; readonly execId: string | undefined }[]>
}

export interface ExecOptions {
  readonly execId: string
  readonly args: readonly string[]
  readonly env?: readonly string[]
  readonly cwd?: string
  readonly user?: string
  readonly tty?: boolean
  readonly stdio: StdioOptions
}

export interface Tasks {
  /** Creates the task of a container; its terminal flag follows the container's spec. Nothing runs before `start`. */
  create(containerId: string, options: { readonly stdio: StdioOptions }, signal: AbortSignal): Promise<Task>
  /** The task that a container has, without its stdio. @throws {Fault} `not-found` */
  get(containerId: string, signal: AbortSignal): Promise<Task>
  list(signal: AbortSignal): Promise<TaskInfo[]>
}

export function createTasks(_wire: Wire, _containers: Containers): Tasks {
  throw new Fault('unimplemented', 'Not yet')
}
