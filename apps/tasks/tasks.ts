import { Fault } from '@gantry/model/fault'
import { parseIdentifier } from '@gantry/model/identifier'
import type { NetworkRequest } from '@gantry/model/network'
import { removeBundle, removeFolder, unmountRootfs } from './bundle.ts'
import { createTask } from './create.ts'
import type { EndingParts, Endings } from './ending.ts'
import { events } from './events.ts'
import type { Networks } from './network/networks.ts'
import { createProcess, notFound, type Process, putProcess, type Registry, removeTask, type Task } from './registry.ts'
import { removeImages } from './restore.ts'
import type { RootfsMounts } from './rootfs.ts'
import { processKey } from './rows.ts'
import type { CheckpointWish } from './runtime/checkpoint.ts'
import type { Restore, RuntimeChoice } from './runtime/runtime.ts'
import { checkStdio, type Stdio } from './runtime/stdio.ts'
import type { Entrance } from './sandbox/entrance.ts'
import { fitProcess, type HostLimits } from './spec.ts'
import { startExec, startInit } from './start.ts'
import { checkExec, checkInit, isAliveLife, isStopped, move, pidOf } from './task.ts'

const SIGKILL = 9

/** A rootfs mount as the client sent it; `target` is a path inside the rootfs, empty for the rootfs itself. */
export interface RootfsMount {
  readonly type: string
  readonly source: string
  readonly target: string
  readonly options: readonly string[]
}

export interface CreateOptions {
  /** The container's specification, JSON as its client wrote it. */
  readonly spec: Uint8Array
  readonly rootfs: readonly RootfsMount[]
  readonly stdio: Stdio
  readonly runtime: RuntimeChoice
  /** A network to make for it, when it asks for one. */
  readonly network?: NetworkRequest | undefined
  /** The sandbox that it is to be in. */
  readonly sandbox?: string | undefined
  /** Path of the small init that is to run its command. */
  readonly init?: string | undefined
  /** The checkpoint that it is to go on from when it is started. */
  readonly restore?: Restore | undefined
}

export interface TasksParts extends EndingParts {
  readonly registry: Registry
  readonly endings: Endings
  readonly networks: Networks
  readonly rootfs: RootfsMounts
  /** How containers come into sandboxes. */
  readonly entrance: Pick<Entrance, 'enter'>
  /** Folder of all bundles. */
  readonly bundles: string
  readonly limits: HostLimits
}

/** The use cases: each checks, acts through the runtime, then stores the change with its event. */
export type Tasks = ReturnType<typeof createTasks>

export function createTasks(parts: TasksParts) {
  const { registry } = parts
  return {
    create: (namespace: string, id: string, options: CreateOptions) => createTask(parts, namespace, id, options),
    find: (namespace: string, id: string, execId: string) => registry.findProcess(namespace, id, execId),
    list: (namespace: string) => registry.list(namespace).flatMap((task) => [task.init, ...task.execs.values()]),

    /** Starts init, or an exec when there is an id. */
    start: (namespace: string, id: string, execId: string): Promise<number> => {
      const process = registry.findProcess(namespace, id, execId)
      return inTurn(parts, process, () => (execId === '' ? startInit(parts, process) : startExec(parts, process)))
    },

    /** Registers an exec; nothing runs until it is started. */
    exec: (namespace: string, id: string, execId: string, what: { stdio: Stdio; spec: string }) =>
      addExec(parts, registry.find(namespace, id), execId, what),

    /** Resolves when the process has ended (at once when it had); gives up when `signal` says so. */
    wait: async (namespace: string, id: string, execId: string, signal: AbortSignal): Promise<Process> => {
      const process = registry.findProcess(namespace, id, execId)
      await untilAborted(process.ended.promise, signal)
      if (process.life.status === 'added') throw notFound(id, execId) // deleted without having run
      return process
    },

    kill: (namespace: string, id: string, execId: string, what: { signal: number; all: boolean }) =>
      killOne(parts, registry.findProcess(namespace, id, execId), what),
    pause: (namespace: string, id: string) => freezeTask(parts, registry.find(namespace, id), 'pause'),
    resume: (namespace: string, id: string) => freezeTask(parts, registry.find(namespace, id), 'resume'),
    update: (namespace: string, id: string, resources: string) =>
      updateTask(parts, registry.find(namespace, id), resources),
    checkpoint: (namespace: string, id: string, wish: CheckpointWish): Promise<void> => {
      const { init } = registry.find(namespace, id)
      return init.exclusive(async () => {
        checkInit('checkpoint', init.life.status)
        await parts.runtime.checkpoint(init.task, wish)
      })
    },
    deleteTask: (namespace: string, id: string): Promise<Process> => deleteTask(parts, registry.find(namespace, id)),
    deleteExec: (namespace: string, id: string, execId: string): Promise<Process> =>
      deleteExec(parts, registry.findProcess(namespace, id, execId)),

    resize: async (namespace: string, id: string, execId: string, size: { columns: number; rows: number }) => {
      const process = registry.findProcess(namespace, id, execId)
      const { life, stdio } = process
      if (execId !== '' && life.status === 'stopped') throw new Fault('unknown', 'cannot resize a stopped process')
      if (stdio.terminal && isAliveLife(life)) await parts.runtime.resize(process, life.live, size)
    },

    closeInput: async (namespace: string, id: string, execId: string): Promise<void> => {
      const process = registry.findProcess(namespace, id, execId)
      await process.exclusive(async () => undefined) // what it wrote is seen before its start is stored
      if (isAliveLife(process.life)) await parts.runtime.closeInput(process, process.life.live)
    },

    /** The pids of a container, each with the exec that it is the first process of. */
    pids: async (namespace: string, id: string): Promise<{ pid: number; execId: string | undefined }[]> => {
      const task = registry.find(namespace, id)
      const execs = new Map([...task.execs.values()].map((exec) => [pidOf(exec.life), exec.execId]))
      return (await parts.runtime.pids(task)).map((pid) => ({ pid, execId: execs.get(pid) }))
    },
  }
}

/** A change of a process that is still there when the changes before it are done. @throws {Fault} `not-found` */
function inTurn<T>({ registry }: TasksParts, process: Process, change: () => Promise<T>): Promise<T> {
  const { task, execId } = process
  return process.exclusive(async () => {
    if (registry.findProcess(task.namespace, task.id, execId) !== process) throw notFound(task.id, execId)
    return change()
  })
}

async function addExec(
  { rows, write, limits }: TasksParts,
  task: Task,
  execId: string,
  what: { stdio: Stdio; spec: string },
): Promise<void> {
  parseIdentifier(execId, 'exec id')
  checkInit('exec', task.init.life.status)
  if (task.execs.has(execId)) throw new Fault('already-exists', `id ${execId}: already exists`)
  const spec = fitProcess(what.spec, limits).text
  const stdio = task.runtime.shim ? what.stdio : checkStdio(what.stdio)
  const exec = createProcess(task, execId, { stdio, spec, life: { status: 'added' } })
  task.execs.set(execId, exec) // before the write, so that the id is taken at once
  try {
    await write((emit) => {
      putProcess(rows, exec, exec.life)
      events.execAdded(exec, emit)
    })
  } catch (error) {
    task.execs.delete(execId)
    throw error
  }
}

/** Does not wait for the end. `all` reaches every process of the container and counts for init alone. */
async function killOne(
  { runtime }: TasksParts,
  process: Process,
  what: { signal: number; all: boolean },
): Promise<void> {
  const { task, execId, life } = process
  if (execId === '') checkInit('kill', life.status)
  else checkExec('kill', life.status)
  if (!isAliveLife(life)) return
  if (what.all && execId === '') await runtime.killAll(task, life.live, what.signal)
  else if (!(await runtime.kill(process, life.live, what.signal))) checkInit('kill', 'stopped')
  if (task.init.life.status === 'paused' && what.signal === SIGKILL) await runtime.resume(task).catch(() => undefined)
}

function freezeTask({ runtime, rows, write }: TasksParts, task: Task, verb: 'pause' | 'resume'): Promise<void> {
  const { init } = task
  return init.exclusive(async () => {
    checkInit(verb, init.life.status)
    await runtime[verb](task)
    const life = move(init.life, verb === 'pause' ? 'paused' : 'running')
    await write((emit) => {
      putProcess(rows, init, life)
      if (verb === 'pause') events.paused(task, emit)
      else events.resumed(task, emit)
    })
    init.life = life
  })
}

function updateTask({ runtime }: TasksParts, task: Task, resources: string): Promise<void> {
  return task.init.exclusive(async () => {
    checkInit('update', task.init.life.status)
    await runtime.update(task, resources)
  })
}

/**
 * Takes a stopped task down: output drained, container forgotten, rootfs free, then its records gone with the event, and at
 * last the bundle. Until the records are gone it may be repeated.
 */
async function deleteTask(parts: TasksParts, task: Task): Promise<Process> {
  const { runtime, rows, write, registry, bundles, log } = parts
  const { init } = task
  checkInit('delete', init.life.status)
  if (init.life.status === 'created') {
    await runtime.kill(init, init.life.live, SIGKILL)
    await init.ended.promise
  }
  return inTurn(parts, init, async () => {
    const { life } = init
    if (isAliveLife(life)) throw new Error('A task that may be deleted has not stopped')
    const all = [init, ...task.execs.values()]
    await Promise.all(all.map((each) => isStopped(each.life) && runtime.release(each, each.life.live)))
    await runtime.delete(task)
    await parts.networks.detach(task.namespace, task.id)
    await unmountRootfs(task.bundle)
    await parts.rootfs.deactivate(task)
    await write((emit) => {
      removeTask(rows, task.namespace, task.id)
      events.deleted(task, emit)
    })
    registry.remove(task)
    for (const each of all) each.ended.resolve()
    removeImages(task.restore)
    try {
      removeBundle(bundles, task.namespace, task.id)
    } catch (err) {
      log.warn({ err, task: task.id }, 'Cannot remove a bundle yet')
    }
    return init
  })
}

function deleteExec(parts: TasksParts, exec: Process): Promise<Process> {
  const { runtime, rows, write } = parts
  const { task, execId } = exec
  return inTurn(parts, exec, async () => {
    checkExec('delete', exec.life.status)
    if (isStopped(exec.life)) await runtime.release(exec, exec.life.live)
    await write(() => rows.processes.remove(processKey(task.namespace, task.id, execId)))
    task.execs.delete(execId)
    exec.ended.resolve()
    removeFolder(task.bundle.processDir(execId))
    return exec
  })
}

/** Gives up waiting, not what is waited for. */
async function untilAborted(ended: Promise<void>, signal: AbortSignal): Promise<void> {
  using stop = new DisposableStack()
  const aborted = new Promise<never>((_, reject) => {
    const abort = (): void => reject(signal.reason)
    if (signal.aborted) abort()
    signal.addEventListener('abort', abort, { once: true })
    stop.defer(() => signal.removeEventListener('abort', abort))
  })
  await Promise.race([ended, aborted])
}
