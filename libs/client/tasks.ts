import { fromBinary } from '@bufbuild/protobuf'
import { ProcessDetailsSchema } from '@gantry/api/containerd/types/runc/options/oci_pb'
import { Fault, isFault } from '@gantry/model/fault'
import { type Packed, packJson, typeNameOf } from './any.ts'
import { type Container, type Containers, findUser } from './containers.ts'
import { leftStdio, type StdioPaths } from './left-stdio.ts'
import { createProcess, type Process, type TaskInfo, toInfo } from './process.ts'
import type { SnapshotMount } from './rootfs.ts'
import { execProcess } from './spec.ts'
import type { TaskStats } from './stats.ts'
import type { Stdio, StdioOptions } from './stdio.ts'
import type { Wire } from './wire.ts'

export type { Exit, Process, TaskInfo, TaskStatus } from './process.ts'
export type { TaskStats } from './stats.ts'

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
  /**
   * Registers a further process in the task of a container; nothing runs before its start.
   *
   * @throws {Fault} `failed-precondition` for a container without a task
   */
  exec(container: string | Container, options: ExecOptions, signal: AbortSignal): Promise<Process>
  /** Creates the task of a container; its terminal flag follows the container's spec. Nothing runs before `start`. */
  create(container: string | Container, options: { readonly stdio: StdioOptions }, signal: AbortSignal): Promise<Task>
  /** The task that a container has, without its stdio. @throws {Fault} `not-found` */
  get(containerId: string, signal: AbortSignal): Promise<Task>
  /**
   * The same, joined to its stdio: for one that runs and whose client has left it. What two clients read at a time is split
   * between them. The end of our input is not the end of its.
   *
   * @throws {Fault} `not-found`, `failed-precondition` when its stdio is no FIFOs of this host
   */
  attach(containerId: string, options: { readonly stdio: StdioOptions }, signal: AbortSignal): Promise<Task>
  list(signal: AbortSignal): Promise<TaskInfo[]>
  /** What the tasks of these containers use, of all when none is named; one that does not run is left out. */
  stats(containerIds: readonly string[], signal: AbortSignal): Promise<TaskStats[]>
}

export function createTasks(wire: Wire, containers: Containers): Tasks {
  const { tasks } = wire.services
  return {
    exec: (container, options, signal) => createExec(wire, containers, { container, ...options }, signal),
    create: (container, { stdio }, signal) => createTask(wire, containers, { container, stdio }, signal),
    async get(containerId, signal) {
      return taskOf(wire, containers, containerId, leftStdio(wire.fifoDir, await pathsOf(wire, containerId, signal)))
    },
    async attach(containerId, { stdio }, signal) {
      const [paths, { attachStdio }] = await Promise.all([pathsOf(wire, containerId, signal), import('./stdio.ts')])
      const io = attachStdio(wire.fifoDir, paths, stdio)
      io.started(() => undefined)
      return taskOf(wire, containers, containerId, io)
    },
    async list(signal) {
      return (await tasks.list({}, wire.call(signal))).tasks.map(toInfo)
    },
    async stats(containerIds, signal) {
      const filters = containerIds.map((id) => `id==${JSON.stringify(id)}`)
      const [{ metrics }, { toStats }] = await Promise.all([
        tasks.metrics({ filters }, wire.call(signal)),
        import('./stats.ts'), // it takes a while, which may pass while the server answers
      ])
      return metrics.map(toStats).filter((stats) => stats !== undefined)
    },
  }
}

async function pathsOf(wire: Wire, containerId: string, signal: AbortSignal): Promise<StdioPaths> {
  const { process } = await wire.services.tasks.get({ containerId }, wire.call(signal))
  if (process) return process
  throw new Fault('internal', 'Cannot read the task: the reply is empty')
}

async function createTask(
  wire: Wire,
  containers: Containers,
  { container, stdio }: { container: string | Container; stdio: StdioOptions },
  signal: AbortSignal,
): Promise<Task> {
  const record = typeof container === 'string' ? await containers.get(container, signal) : container
  const { openStdio } = await import('./stdio.ts')
  const terminal = record.spec?.process.terminal ?? false
  const rootfs = (await mountsOf(wire, record, signal)).map(toMount)
  const io = openStdio(wire.fifoDir, { name: record.id, terminal }, stdio)
  try {
    await wire.services.tasks.create({ containerId: record.id, rootfs, terminal, ...io.paths }, wire.call(signal))
  } catch (error) {
    io[Symbol.dispose]()
    throw error
  }
  return taskOf(wire, containers, record.id, io)
}

function taskOf(wire: Wire, containers: Containers, containerId: string, io: Stdio | undefined): Task {
  const { tasks } = wire.services
  return {
    ...createProcess(wire, { containerId, execId: '' }, io),
    exec: (options, signal) => createExec(wire, containers, { container: containerId, ...options }, signal),
    async pause(signal) {
      await tasks.pause({ containerId }, wire.call(signal))
    },
    async resume(signal) {
      await tasks.resume({ containerId }, wire.call(signal))
    },
    async pids(signal) {
      const { processes } = await tasks.listPids({ containerId }, wire.call(signal))
      return processes.map(({ pid, info }) => ({ pid, execId: info && execIdOf(info) }))
    },
  }
}

async function createExec(
  wire: Wire,
  containers: Containers,
  { container, execId, stdio, user, ...options }: ExecOptions & { container: string | Container },
  signal: AbortSignal,
): Promise<Process> {
  // system calls take a while to load: that may pass while the server answers
  const [record, { openStdio }] = await Promise.all([
    typeof container === 'string' ? containers.get(container, signal) : container,
    import('./stdio.ts'),
  ])
  const containerId = record.id
  if (!record.spec) throw new Fault('failed-precondition', `Cannot run in "${containerId}": its spec cannot be read`)
  const found = user === undefined ? {} : { user: await findUser(user, () => mountsOf(wire, record, signal)) }
  const spec = execProcess(record.spec.process, { ...options, ...found })
  const terminal = options.tty ?? false
  const io = openStdio(wire.fifoDir, { name: execId, terminal }, stdio)
  const request = { containerId, execId, terminal, spec: packJson('Process', spec), ...io.paths }
  try {
    await wire.services.tasks.exec(request, wire.call(signal))
  } catch (error) {
    io[Symbol.dispose]()
    if (!isFault(error, 'not-found')) throw error
    throw new Fault('failed-precondition', `Cannot run in "${containerId}": it is not running`, { cause: error })
  }
  return createProcess(wire, { containerId, execId }, io)
}

async function mountsOf(wire: Wire, record: Container, signal: AbortSignal): Promise<readonly SnapshotMount[]> {
  const { snapshotter, snapshotKey, rootfs } = record
  if (rootfs) return rootfs
  if (snapshotKey === '') return []
  return (await wire.services.snapshots.mounts({ snapshotter, key: snapshotKey }, wire.call(signal))).mounts
}

function toMount({ type, source, target = '', options }: SnapshotMount) {
  return { type, source, target, options: [...options] }
}

/** Only processes started as an exec carry details; of another message there is nothing to say. */
function execIdOf(info: Packed): string | undefined {
  return typeNameOf(info) === ProcessDetailsSchema.typeName
    ? fromBinary(ProcessDetailsSchema, info.value).execId
    : undefined
}
