import { readdirSync, rmSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { mountsUnder, unmountAll } from '@gantry/linux/mount'
import { isAlive, sendSignal } from '@gantry/linux/process'
import { isSystemError } from '@gantry/linux/system'
import type { Repair, Difference as RepairDifference } from '@gantry/service/repair'
import { catchUp, clean } from './adopt.ts'
import { bundleOf, listBundles } from './bundle.ts'
import { pidsOf } from './cgroup.ts'
import type { Task } from './registry.ts'
import type { Host } from './runtime/choose.ts'
import { isStopped } from './task.ts'
import type { TasksParts } from './tasks.ts'
import { workersBelow } from './workers.ts'

const EVERY_MS = 60_000
const IDLE_FIFO_MS = 10 * 60_000 // a client makes its FIFOs a moment before its call
const LEAVING_MS = 500 // how long a monitor may take to end after it told of its process
const SIGKILL = 9
const ADVICE = 'end what is left of it by hand, and remove the container: gantry rm --force'

export interface ReconcileParts extends TasksParts {
  /** The state folder of Gantry. */
  readonly state: string
  readonly host: Pick<Host, 'find'>
}

/** Something that is not as the records say. */
export interface Difference {
  readonly what: string
  /** What it is about: a path, a pid, a task. */
  readonly of: string
  /** With `dryRun`: could it be? */
  readonly repaired: boolean
}

export interface Reconciled extends Disposable {
  /** The same for somebody who asks for it. */
  readonly repair: Repair
}

/** Reconciles now and every minute until disposed. What cannot be repaired is logged once. */
export async function keepReconciled(parts: ReconcileParts): Promise<Reconciled> {
  const told = new Set<string>()
  const pass = async (): Promise<void> => {
    try {
      for (const difference of await reconcile(parts)) {
        const words = `${difference.what}: ${difference.of}`
        if (difference.repaired || !told.has(words)) parts.log.warn(difference, 'The host differs from the records')
        if (!difference.repaired) told.add(words)
      }
    } catch (err) {
      parts.log.error({ err }, 'Cannot compare the host with the records')
    }
  }
  await pass()
  let running = Promise.resolve()
  const timer = setInterval(() => {
    running = running.then(pass)
  }, EVERY_MS)
  timer.unref()
  /** One after the other: what one of them is at is no difference to another. */
  async function* repair(dryRun: boolean): AsyncGenerator<RepairDifference> {
    const found = running.then(() => reconcile(parts, { dryRun }))
    running = found.then(
      () => undefined,
      () => undefined,
    )
    for (const { what, of, repaired } of await found) yield { what, of, ...(!repaired && { advice: ADVICE }) }
  }
  return { repair, [Symbol.dispose]: () => clearInterval(timer) }
}

/**
 * Compares the records with what is on the host: bundles, mounts, processes, the OCI runtime's own state, cgroups, FIFOs.
 * What no record knows is removed, since nobody could ever ask for it; a state that changed behind our back is recorded;
 * the rest is only reported. A task that is being made keeps its name reserved, so it is never taken for garbage.
 *
 * @param options.dryRun only reports
 */
export async function reconcile(
  given: ReconcileParts,
  { dryRun = false }: { dryRun?: boolean } = {},
): Promise<Difference[]> {
  const parts = { ...given, dryRun }
  const found: Difference[] = []
  const add = (what: string, of: string, repaired = true): void => void found.push({ what, of, repaired })
  await removeBundles(parts, add)
  removeMounts(parts, add)
  await endProcesses(parts, add)
  await forgetContainers(parts, add)
  removeFifos(parts, add)
  for (const task of parts.registry.all()) await compareTask(parts, task, add)
  return found
}

type Comparing = ReconcileParts & { readonly dryRun: boolean }
type Add = (what: string, of: string, repaired?: boolean) => void

async function removeBundles(parts: Comparing, add: Add): Promise<void> {
  const { registry, bundles } = parts
  for (const { namespace, id } of listBundles(bundles)) {
    if (registry.has(namespace, id)) continue
    using _ = registry.reserve(namespace, id)
    if (!parts.dryRun) await clean(parts, namespace, id)
    add('A bundle without a record', bundleOf(bundles, namespace, id).dir)
  }
}

function removeMounts({ registry, bundles, dryRun }: Comparing, add: Add): void {
  for (const point of mountsUnder(bundles)) {
    const place = placeOf(bundles, point)
    if (place === undefined || registry.has(place.namespace, place.id)) continue
    if (!dryRun) unmountAll(point, { detach: true })
    add('A mount without a record', point)
  }
}

/** A monitor or a helper works in the folder of its process; one whose process is not recorded serves nobody. */
async function endProcesses({ registry, bundles, dryRun }: Comparing, add: Add): Promise<void> {
  const isUnknown = ({ folder }: { folder: string }): boolean => {
    const place = placeOf(bundles, folder)
    if (place === undefined) return false
    const { namespace, id, execId } = place
    const task = registry.all().find((each) => each.namespace === namespace && each.id === id)
    return task ? execId !== '' && !task.execs.has(execId) : !registry.has(namespace, id)
  }
  const unknown = workersBelow(bundles).filter(isUnknown)
  if (unknown.length > 0) await sleep(LEAVING_MS)
  for (const worker of unknown)
    if (isUnknown(worker) && isAlive(worker.process) && (dryRun || sendSignal(worker.process, SIGKILL)))
      add('A process without a record', `${worker.process.pid} in ${worker.folder}`)
}

/** The runtimes that we choose ourselves keep their state in our state folder, one folder a namespace. */
async function forgetContainers({ registry, runtime, bundles, state, host, log, dryRun }: Comparing, add: Add) {
  for (const name of ['runc', 'crun']) {
    const binary = host.find(name)
    for (const namespace of binary === undefined ? [] : namesIn(join(state, name)))
      for (const id of namesIn(join(state, name, namespace))) {
        if (binary === undefined || registry.has(namespace, id)) continue
        using _ = registry.reserve(namespace, id)
        const choice = { ...BUILT_IN, binary, root: join(state, name, namespace) }
        const task = { namespace, id, bundle: bundleOf(bundles, namespace, id), runtime: choice, cgroup: null }
        const error = dryRun ? undefined : await runtime.delete(task).catch((err) => err)
        if (error) log.warn({ err: error, task: id }, 'Cannot make the runtime forget a container')
        add('A container without a record', join(choice.root, id), !error)
      }
  }
}

const BUILT_IN = { systemdCgroup: false, noPivot: false, noNewKeyring: false, ioUid: 0, ioGid: 0, shim: null } as const

/** A client that was killed leaves the folder of its FIFOs beside our socket. */
function removeFifos({ registry, state, dryRun }: Comparing, add: Add): void {
  const used = new Set(
    registry
      .all()
      .flatMap((task) => [task.init, ...task.execs.values()])
      .flatMap(({ stdio: { stdin, stdout, stderr } }) => [stdin, stdout, stderr])
      .map((path) => dirname(path.replace(/^fifo:\/\//, ''))),
  )
  for (const name of namesIn(join(state, 'fifo'))) {
    const folder = join(state, 'fifo', name)
    const made = statSync(folder, { throwIfNoEntry: false })?.mtimeMs
    if (made === undefined || used.has(folder) || Date.now() - made < IDLE_FIFO_MS) continue
    if (!dryRun) rmSync(folder, { recursive: true, force: true })
    add('FIFOs of a client that is gone', folder)
  }
}

async function compareTask(parts: Comparing, task: Task, add: Add): Promise<void> {
  const { registry, runtime } = parts
  const name = `${task.namespace}/${task.id}`
  const { life } = task.init
  if (task.runtime.shim || !registry.has(task.namespace, task.id)) return
  if (!statSync(task.bundle.dir, { throwIfNoEntry: false })) add('A task without its bundle', name, false)
  // in a pid namespace of its own nobody outlives init, and a group may be shared with others
  if (isStopped(life) && task.sharesPids && task.cgroup !== null && pidsOf(task.cgroup).length > 0) {
    if (!parts.dryRun) await runtime.killAll(task, life.live, SIGKILL)
    add('Processes left of a task that has stopped', name)
  }
  if (life.status === 'running' || life.status === 'paused') {
    if (!isAlive(life.live.process) && isAlive(life.live.monitor))
      add('A monitor that does not tell of an end', `${life.live.monitor.pid} of ${name}`, false)
    if (parts.dryRun) return
    await task.init.exclusive(async () => {
      if (task.init.life !== life) return
      await catchUp(parts, task)
    })
    if (task.init.life.status !== life.status) add(`A task that is ${task.init.life.status}`, name)
  }
}

interface Place {
  readonly namespace: string
  readonly id: string
  /** Empty for init. */
  readonly execId: string
}

/** Which process a path below the folder of all bundles belongs to. */
function placeOf(bundles: string, path: string): Place | undefined {
  if (!path.startsWith(`${bundles}/`)) return undefined
  const [namespace, id, kind, execId] = path.slice(bundles.length + 1).split('/')
  if (!namespace || !id) return undefined
  return { namespace, id, execId: kind === 'execs' ? (execId ?? '') : '' }
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch (error) {
    if (isSystemError(error, 'ENOENT', 'ENOTDIR')) return []
    throw error
  }
}
