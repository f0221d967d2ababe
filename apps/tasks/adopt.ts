import { bundleOf, listBundles, processFolders, readRuntime } from './bundle.ts'
import { isFrozen } from './cgroup.ts'
import { events } from './events.ts'
import { buildTask, createProcess, type Process, putProcess, removeTask, type Task } from './registry.ts'
import { leaveBundle } from './rootfs.ts'
import { processKey, type TaskRow } from './rows.ts'
import { type Alive, isStopped, move, pidOf } from './task.ts'
import type { TasksParts } from './tasks.ts'

/**
 * Takes over what an earlier run of this process left, before any call is answered: containers that run go on, ends that came
 * meanwhile become events (once, for they are recorded with them), half-made things go. Records of an earlier boot name
 * processes that no longer exist; a task without its first process is none.
 */
export async function adopt(parts: TasksParts): Promise<void> {
  const { rows, write, registry, endings, boot, bundles, log } = parts
  const stored = [...rows.tasks.list()]
  const stale = stored.filter(({ key: [namespace = '', id = ''], value }) => {
    return value.boot !== boot || !rows.processes.get(processKey(namespace, id, ''))
  })
  if (stale.length > 0)
    await write(() => {
      for (const {
        key: [namespace = '', id = ''],
      } of stale)
        removeTask(rows, namespace, id)
    })
  for (const { key, value } of rows.tasks.list()) load(parts, key, value)
  for (const { namespace, id } of listBundles(bundles))
    if (!registry.has(namespace, id)) await clean(parts, namespace, id)

  // those of containers that end from now on are freed with their end; nobody has to wait for the others
  void parts.networks.sweep(
    (namespace, id) => registry.has(namespace, id) && registry.find(namespace, id).init.life.status !== 'stopped',
  )

  const tasks = registry.all()
  const take = async (task: Task): Promise<void> => {
    await catchUp(parts, task).catch((err) => log.warn({ err, task: task.id }, 'Cannot ask the runtime for the state'))
    for (const process of [task.init, ...task.execs.values()]) endings.follow(process)
  }
  await Promise.all(tasks.map(take)) // side by side: a shim that hangs holds up no other
  if (tasks.length > 0 || stale.length > 0)
    log.info({ adopted: tasks.length, stale: stale.length }, 'Took over the tasks of an earlier run')
}

function load({ rows, registry, bundles, runtime }: TasksParts, key: readonly string[], row: TaskRow): void {
  const [namespace = '', id = ''] = key
  const init = rows.processes.get(processKey(namespace, id, ''))
  if (init === undefined) return
  const task = buildTask({ namespace, id, bundle: bundleOf(bundles, namespace, id) }, row, init)
  for (const {
    key: [, , , execId],
    value,
  } of rows.processes.list({ prefix: [namespace, id, 'exec'] })) {
    if (execId === undefined) continue
    task.execs.set(execId, createProcess(task, execId, value))
    if (value.life.status === 'added') runtime.discard(task.bundle.processDir(execId)) // its start was cut short
  }
  if (init.life.status === 'added') runtime.discard(task.bundle.processDir(''))
  // what comes after the record of an end may have been cut short
  for (const { life } of [task.init, ...task.execs.values()]) if (isStopped(life)) runtime.endInput(life.live)
  registry.add(task)
}

/** What the runtime did for a call that was cut short before it was recorded. */
export async function catchUp(parts: TasksParts, task: Task): Promise<void> {
  const { init } = task
  const { status } = init.life
  if (status === 'added' && !task.runtime.shim)
    await parts.runtime.delete(task) // a shim finds what it started by itself
  else if (status === 'created') {
    const now = await parts.runtime.status(task)
    if (now === 'running' || now === 'paused') await become(parts, init, 'running', events.started)
  } else if (task.cgroup !== null && (status === 'running' || status === 'paused')) {
    const frozen = isFrozen(task.cgroup)
    if (status === 'running' && frozen) await become(parts, init, 'paused', (_, emit) => events.paused(task, emit))
    if (status === 'paused' && !frozen) await become(parts, init, 'running', (_, emit) => events.resumed(task, emit))
  }
}

async function become(
  { rows, write }: TasksParts,
  init: Process,
  status: Alive['status'],
  tell: typeof events.started,
): Promise<void> {
  const life = move(init.life, status)
  await write((emit) => {
    putProcess(rows, init, life)
    tell(init, emit, pidOf(life))
  })
  init.life = life
}

/** A bundle that no record knows: a Create or a Delete was cut short. */
export async function clean(parts: TasksParts, namespace: string, id: string): Promise<void> {
  const { runtime, bundles, log } = parts
  const bundle = bundleOf(bundles, namespace, id)
  log.info({ namespace, task: id }, 'Removing what a crash left of a task')
  for (const folder of processFolders(bundle)) runtime.discard(folder)
  const choice = readRuntime(bundle)
  if (choice !== undefined)
    await runtime
      .delete({ namespace, id, bundle, runtime: choice, cgroup: null })
      .catch((err) => log.warn({ err, task: id }, 'Cannot make the runtime forget a task'))
  await leaveBundle(parts, { namespace, id, bundle }).catch((err) =>
    log.warn({ err, task: id }, 'Cannot remove a bundle yet'),
  )
}
