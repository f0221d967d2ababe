import type { Bundle } from '../bundle.ts'
import type { Exit, Live } from '../task.ts'
import type { RootfsMount } from '../tasks.ts'
import type { CheckpointWish } from './checkpoint.ts'
import type { Stdio } from './stdio.ts'

/** A shim that somebody else wrote. */
export interface ShimChoice {
  /** Absolute path of its program, empty for a shim that is joined. */
  readonly binary: string
  /** Where a shim runs that is somebody else's: it is spoken to, neither started nor ended. */
  readonly joins?: { readonly address: string; readonly version: number; readonly protocol: string }
  /** It runs a sandbox: what it is told of that beside its options. */
  readonly sandbox?: { readonly netns: string; readonly annotations: Readonly<Record<string, string>> }
  /** What it is told with Create: an Any, its value in base64. */
  readonly options: { readonly typeUrl: string; readonly value: string } | null
}

/** How one task is run, chosen when it is created and recorded with it: a later change of configuration leaves it alone. */
export interface RuntimeChoice {
  /** Absolute path of the OCI runtime's program. */
  readonly binary: string
  /** Folder of that runtime's own state. */
  readonly root: string
  readonly systemdCgroup: boolean
  readonly noPivot: boolean
  readonly noNewKeyring: boolean
  /** Who owns the pipes and FIFOs of its processes, so that a container's user can open `/dev/stdout`; 0 leaves them alone. */
  readonly ioUid: number
  readonly ioGid: number
  /** The external shim that runs the task, when it is not the built-in runtime; all the rest is for that. */
  readonly shim: ShimChoice | null
}

/** A checkpoint that a container is to go on from. */
export interface Restore {
  /** Folder of what criu wrote. */
  readonly images: string
  /** Where criu works and writes its log; the bundle when it is empty. */
  readonly workPath: string
  /** The folder was made for this task: it goes when it has served. */
  readonly owned: boolean
}

/** A task as its runtime knows it. */
export interface RuntimeTask {
  readonly namespace: string
  readonly id: string
  readonly bundle: Bundle
  readonly runtime: RuntimeChoice
  readonly cgroup: string | null
}

/** One process of a task: init when `execId` is empty. */
export interface RuntimeProcess {
  readonly task: RuntimeTask
  readonly execId: string
  readonly stdio: Stdio
}

export type TaskStatus = 'created' | 'running' | 'paused' | 'stopped'

/** What happens to a process, told at most once each; `onOom` comes before the exit. */
export interface Watcher {
  onExit(exit: Exit): void
  onOom(): void
}

/**
 * What runs containers. Built in is an OCI runtime under conmon (`oci.ts`); an external shim is another implementation.
 * Nothing here keeps state of its own that a restart would lose: all that is needed comes in with the call.
 *
 * A call that the runtime refuses throws the Fault that the client sees, with the runtime's own text in it.
 */
export interface Runtime {
  /**
   * Makes the container of a bundle that is ready; its init waits for `start`. On failure nothing of it is left.
   * @param rootfs what a shim has to mount; the built-in runtime finds it mounted
   */
  create(process: RuntimeProcess, rootfs: readonly RootfsMount[]): Promise<Live>
  start(task: RuntimeTask): Promise<void>
  /** Makes ready what `restore` lets go on; nothing runs before that. The rest is as of `create`. */
  prepare(process: RuntimeProcess, rootfs: readonly RootfsMount[], from: Restore): Promise<void>
  /** Goes on from a checkpoint. What an attempt that was cut short has left is no hindrance, and on failure it may be repeated. */
  restore(process: RuntimeProcess, from: Restore): Promise<Live>
  /** Starts a further process. @param spec JSON of an OCI process */
  exec(process: RuntimeProcess, spec: string): Promise<Live>
  /** @returns false when the process is gone */
  kill(process: RuntimeProcess, live: Live, signal: number): Promise<boolean>
  /** Sends a signal to every process of the container. */
  killAll(task: RuntimeTask, live: Live, signal: number): Promise<void>
  pause(task: RuntimeTask): Promise<void>
  resume(task: RuntimeTask): Promise<void>
  /** @param resources JSON of LinuxResources */
  update(task: RuntimeTask, resources: string): Promise<void>
  /** Writes the state of a running container into the folder `wish.imagePath`. @throws {Fault} `failed-precondition` where the host cannot */
  checkpoint(task: RuntimeTask, wish: CheckpointWish): Promise<void>
  pids(task: RuntimeTask): Promise<number[]>
  /** The state the runtime itself reports, for a task found after a restart. */
  status(task: RuntimeTask): Promise<TaskStatus>
  resize(process: RuntimeProcess, live: Live, size: { columns: number; rows: number }): Promise<void>
  /** The client will send no more input. */
  closeInput(process: RuntimeProcess, live: Live): Promise<void>
  /** The process has ended: nothing has to wait for its input any more. */
  endInput(live: Live): void
  /** Waits until all output of a process that has ended is with the client, 10 s at most, then forgets an exec. */
  release(process: RuntimeProcess, live: Live): Promise<void>
  /** Forgets the container and kills what may be left of it; safe to repeat. */
  delete(task: RuntimeTask): Promise<void>
  /** Ends whatever a crash in the middle of `create` or `exec` left behind in a process folder. */
  discard(folder: string): void
  /** Tells of the end of a process, also when that was before; disposing it stops the telling, not the process. */
  watch(process: RuntimeProcess, live: Live, watcher: Watcher): Disposable
}
