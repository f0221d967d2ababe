import type { Container, Containers } from '@gantry/api/containerd/services/containers/v1/containers_pb'
import type { Namespaces } from '@gantry/api/containerd/services/namespaces/v1/namespace_pb'
import type { Snapshots } from '@gantry/api/containerd/services/snapshots/v1/snapshots_pb'
import { Fault, ignoring, isFault } from '@gantry/model/fault'
import {
  EXPLICITLY_STOPPED,
  RESTART_COUNT,
  RESTART_LOG,
  RESTART_STATUS,
  restartCount,
  shouldRestart,
} from '@gantry/model/restart'
import type { Client } from '@gantry/rpc/client'
import type { Process as Service } from '@gantry/service/process'
import { fromRecord, type RecordParts } from '../record.ts'
import type { Life } from '../task.ts'
import type { Tasks } from '../tasks.ts'
import { type Backoff, createBackoff } from './backoff.ts'

const PASS_MS = 10_000 // how soon labels that a client changes are seen, as in containerd
const CALL_MS = 30_000
const SIGKILL = 9
const EXIT_STATUS = 'gantry/exit-status' // how the run before ended, for when its task is gone
const WANTED = `labels."${RESTART_STATUS}"`

export interface MonitorParts {
  readonly tasks: Tasks
  readonly containers: Client<typeof Containers>
  readonly namespaces: Client<typeof Namespaces>
  readonly snapshots: Client<typeof Snapshots>
  readonly runtimes: RecordParts
  readonly now: () => number
  readonly log: Service['log']
}

/**
 * Starts containers again as their labels want it. It keeps nothing that a crash would lose: what is wanted and how often it
 * was tried is in the record, how it ended in the task, and a pass over all records finds what no end was told of.
 */
export interface Monitor extends Disposable {
  /** A task has ended: looked at at once, not only with the next pass. */
  ended(namespace: string, id: string): void
}

interface Watched {
  readonly backoff: Backoff
  timer: NodeJS.Timeout | undefined
  /** A restart is being made. */
  busy: boolean
}

export function createMonitor(parts: MonitorParts): Monitor {
  const { log, now } = parts
  const stop = new AbortController()
  const watched = new Map<string, Watched>()

  async function pass(): Promise<void> {
    const signal = AbortSignal.any([stop.signal, AbortSignal.timeout(CALL_MS)])
    const { namespaces } = await parts.namespaces.list({}, { signal })
    const seen = new Set<string>()
    for (const { name } of namespaces) {
      const { containers } = await parts.containers.list({ filters: [WANTED] }, { namespace: name, signal })
      for (const container of containers) {
        seen.add(`${name}/${container.id}`)
        await judge(name, container)
      }
    }
    for (const [key, { timer, busy }] of watched) if (!seen.has(key) && !timer && !busy) watched.delete(key)
  }

  /** A task that is there and lives is as wanted, unless it is not wanted at all. */
  async function judge(namespace: string, container: Container): Promise<void> {
    const life = lifeOf(parts.tasks, namespace, container.id)
    if (life !== undefined && life.status !== 'stopped') {
      const unwanted = container.labels[RESTART_STATUS] === 'stopped' && container.labels[EXPLICITLY_STOPPED] !== 'true'
      if (unwanted)
        await parts.tasks.kill(namespace, container.id, '', { signal: SIGKILL, all: true }).catch(() => undefined)
    } else if (shouldRestart(container.labels, exitStatusOf(life, container))) schedule(namespace, container.id)
  }

  function schedule(namespace: string, id: string): void {
    const key = `${namespace}/${id}`
    const one = watched.get(key) ?? { backoff: createBackoff(), timer: undefined, busy: false }
    watched.set(key, one)
    if (one.timer || one.busy || stop.signal.aborted) return
    one.timer = setTimeout(() => {
      one.timer = undefined
      one.busy = true
      void again(namespace, id, one).finally(() => {
        one.busy = false
      })
    }, one.backoff.next(now()))
  }

  /** What fails is tried again, later each time: by what the record says then. */
  async function again(namespace: string, id: string, one: Watched): Promise<void> {
    try {
      if (await restart(parts, namespace, id, stop.signal)) one.backoff.started(now())
    } catch (err) {
      if (stop.signal.aborted) return
      log.warn({ err, namespace, task: id }, 'Cannot start a container again')
      one.busy = false
      schedule(namespace, id)
    }
  }

  async function look(namespace: string, id: string): Promise<void> {
    const signal = AbortSignal.any([stop.signal, AbortSignal.timeout(CALL_MS)])
    const { container } = await parts.containers.get({ id }, { namespace, signal })
    if (container?.labels[RESTART_STATUS] !== undefined) await judge(namespace, container)
  }

  const passes = setInterval(() => void guarded(pass()), PASS_MS)
  void guarded(pass())

  /** The next pass does what this one could not. */
  async function guarded(work: Promise<void>): Promise<void> {
    await work.catch((err) => {
      if (!stop.signal.aborted && !isFault(err, 'not-found')) log.warn({ err }, 'Cannot look after restarts')
    })
  }

  return {
    ended: (namespace, id) => void guarded(look(namespace, id)),
    [Symbol.dispose]() {
      stop.abort()
      clearInterval(passes)
      for (const { timer } of watched.values()) clearTimeout(timer)
    },
  }
}

/**
 * The count and how it ended go into the record before the old task goes: a crash in between costs one try, not the
 * container. @returns whether it runs now
 */
async function restart(parts: MonitorParts, namespace: string, id: string, stopped: AbortSignal): Promise<boolean> {
  const { tasks, containers, snapshots, runtimes } = parts
  const call = { namespace, signal: AbortSignal.any([stopped, AbortSignal.timeout(CALL_MS)]) }
  const reply = await ignoring('not-found', containers.get({ id }, call))
  const container = reply?.container
  const life = lifeOf(tasks, namespace, id)
  if (!container || (life !== undefined && life.status !== 'stopped')) return false
  const exitStatus = exitStatusOf(life, container)
  if (!shouldRestart(container.labels, exitStatus)) return false
  const labels = {
    [RESTART_COUNT]: String(restartCount(container.labels) + 1),
    ...(exitStatus !== undefined && { [EXIT_STATUS]: String(exitStatus) }),
  }
  const paths = Object.keys(labels).map((name) => `labels.${name}`)
  await containers.update({ container: { id, labels }, updateMask: { paths } }, call)
  if (lifeOf(tasks, namespace, id) !== life) return false // somebody else deletes it, or starts another
  if (life) await ignoring('not-found', tasks.deleteTask(namespace, id))
  const { snapshotter, snapshotKey: key } = container
  const { mounts } = key === '' ? { mounts: [] } : await snapshots.mounts({ snapshotter, key }, call)
  const log = container.labels[RESTART_LOG] ?? ''
  const stdio = { stdin: '', stdout: log, stderr: log, terminal: wantsTerminal(container) }
  const wish = { namespace, rootfs: mounts, stdio, runtime: { path: '', options: undefined } }
  try {
    await tasks.create(namespace, id, fromRecord(runtimes, container, wish))
  } catch (error) {
    if (isFault(error, 'already-exists')) return false // somebody else started it
    throw error
  }
  const now = await ignoring('not-found', containers.get({ id }, call))
  if (now?.container?.labels[RESTART_STATUS] === 'running') return startOrDelete(tasks, namespace, id)
  await tasks.deleteTask(namespace, id) // somebody stopped or removed it meanwhile
  return false
}

async function startOrDelete(tasks: Tasks, namespace: string, id: string): Promise<boolean> {
  try {
    await tasks.start(namespace, id, '')
    return true
  } catch (error) {
    await tasks.deleteTask(namespace, id).catch(() => undefined)
    throw error
  }
}

function lifeOf(tasks: Tasks, namespace: string, id: string): Life | undefined {
  try {
    return tasks.find(namespace, id, '').life
  } catch (error) {
    if (error instanceof Fault && error.code === 'not-found') return undefined
    throw error
  }
}

function exitStatusOf(life: Life | undefined, container: Container): number | undefined {
  if (life?.status === 'stopped') return life.exit.status
  const remembered = Number(container.labels[EXIT_STATUS] ?? Number.NaN)
  return Number.isInteger(remembered) ? remembered : undefined
}

function wantsTerminal({ spec }: Container): boolean {
  try {
    return JSON.parse(new TextDecoder().decode(spec?.value)).process.terminal === true
  } catch {
    return false
  }
}
