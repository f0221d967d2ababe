import { Fault } from '@gantry/model/fault'
import type { Emit } from '@gantry/service/changes'
import type { Bundle } from './bundle.ts'
import { processKey, type Rows, type TaskRow } from './rows.ts'
import type { Restore, RuntimeTask } from './runtime/runtime.ts'
import type { Stdio } from './runtime/stdio.ts'
import type { Life } from './task.ts'

/** A task as this process holds it: what is stored, and who waits for it. */
export interface Task extends RuntimeTask {
  readonly namespace: string
  cgroup: string | null
  /** Its processes do not die with its init, so they have to be killed. */
  sharesPids: boolean
  /** The sandbox it belongs to, or null. */
  readonly sandbox: string | null
  /** The checkpoint that init is to go on from, until it does. */
  restore: Restore | null
  readonly init: Process
  readonly execs: Map<string, Process>
  oomSeen: boolean
  /** Init has ended: no exec may start any more. */
  ending: boolean
}

/** Init or an exec. Its `life` changes only under its lock, and only after the change is stored. */
export interface Process {
  readonly task: Task
  /** Empty for init. */
  readonly execId: string
  readonly stdio: Stdio
  /** JSON of an exec's process, null for init. */
  readonly spec: string | null
  life: Life
  /** Resolved when there is nothing left to wait for: it has stopped, failed to start, or was deleted. */
  readonly ended: PromiseWithResolvers<void>
  /** Runs one change after the other. */
  readonly exclusive: Lock
  watch: Disposable | undefined
}

export type Lock = <T>(change: () => Promise<T>) => Promise<T>

/** Every task there is, by namespace and id. The records are read once, at the start; from then on this is the truth. */
export interface Registry {
  /** @throws {Fault} `not-found` */
  find(namespace: string, id: string): Task
  /** @param execId empty for init. @throws {Fault} `not-found` */
  findProcess(namespace: string, id: string, execId: string): Process
  list(namespace: string): Task[]
  all(): Task[]
  has(namespace: string, id: string): boolean
  add(task: Task): void
  remove(task: Task): void
  /** Keeps a name for a task that is being made. @throws {Fault} `already-exists` */
  reserve(namespace: string, id: string): Disposable
}

export function createRegistry(): Registry {
  const tasks = new Map<string, Task>()
  const reserved = new Set<string>()
  const keyOf = (namespace: string, id: string): string => `${namespace}/${id}`
  const find = (namespace: string, id: string): Task => {
    const task = tasks.get(keyOf(namespace, id))
    if (task === undefined) throw notFound(id)
    return task
  }
  return {
    find,
    findProcess(namespace, id, execId) {
      const task = find(namespace, id)
      const process = execId === '' ? task.init : task.execs.get(execId)
      if (process === undefined) throw notFound(id, execId)
      return process
    },
    list: (namespace) => [...tasks.values()].filter((task) => task.namespace === namespace),
    all: () => [...tasks.values()],
    has: (namespace, id) => tasks.has(keyOf(namespace, id)) || reserved.has(keyOf(namespace, id)),
    add: (task) => void tasks.set(keyOf(task.namespace, task.id), task),
    remove: (task) => void tasks.delete(keyOf(task.namespace, task.id)),
    reserve(namespace, id) {
      const key = keyOf(namespace, id)
      if (tasks.has(key) || reserved.has(key)) throw new Fault('already-exists', `task ${id}: already exists`)
      reserved.add(key)
      return { [Symbol.dispose]: () => void reserved.delete(key) }
    },
  }
}

export function buildTask(
  name: { readonly namespace: string; readonly id: string; readonly bundle: Bundle },
  row: Omit<TaskRow, 'boot'>,
  { stdio, life }: { readonly stdio: Stdio; readonly life: Life },
): Task {
  const { runtime, cgroup, sharesPids, oomSeen, sandbox = null, restore = null } = row
  const task: Task = {
    ...{ ...name, runtime, cgroup, sharesPids, oomSeen, sandbox, restore },
    ending: life.status === 'stopped',
    execs: new Map(),
    get init() {
      return init
    },
  }
  const init = createProcess(task, '', { stdio, spec: null, life })
  return task
}

export function createProcess(
  task: Task,
  execId: string,
  what: { readonly stdio: Stdio; readonly spec: string | null; readonly life: Life },
): Process {
  const ended = Promise.withResolvers<void>()
  if (what.life.status === 'stopped' || what.life.status === 'failed') ended.resolve()
  return { task, execId, ...what, ended, exclusive: createLock(), watch: undefined }
}

/** The words by which clients know that there is no task, or no such exec in it. */
export function notFound(id: string, execId = ''): Fault {
  return new Fault(
    'not-found',
    execId === '' ? `task ${id} not found: not found` : `process does not exist ${execId}: not found`,
  )
}

/** Stores the state of a process inside a write; `life` is what it becomes. */
export function putProcess(rows: Rows, process: Process, life: Life): void {
  const { task, execId, stdio, spec } = process
  rows.processes.put(processKey(task.namespace, task.id, execId), { stdio, spec, life })
}

/** @param change what is different from then on */
export function putTask(rows: Rows, task: Task, boot: string, change: Partial<TaskRow> = {}): void {
  const { runtime, cgroup, sharesPids, oomSeen, sandbox, restore } = task
  const row = { boot, runtime, cgroup, sharesPids, oomSeen, sandbox, restore }
  rows.tasks.put([task.namespace, task.id], { ...row, ...change })
}

/** Removes everything that is stored of a task. */
export function removeTask(rows: Rows, namespace: string, id: string): void {
  const processes = [...rows.processes.list({ prefix: [namespace, id] })]
  for (const { key } of processes) rows.processes.remove(key)
  rows.tasks.remove([namespace, id])
}

/** What a change of this app may be: records and events in one transaction. */
export type Write = <T>(change: (emit: Emit) => T) => Promise<T>

/** A lock that lets one change in at a time, in the order they came. */
function createLock(): Lock {
  let last: Promise<unknown> = Promise.resolve()
  return (change) => {
    const run = last.then(change)
    last = run.catch(() => undefined)
    return run
  }
}
