import { dirname } from 'node:path'
import { parseIdentifier } from '@gantry/model/identifier'
import { bundleOf, makeBundle } from './bundle.ts'
import { accountOf } from './cgroup.ts'
import { events } from './events.ts'
import { withInit } from './init.ts'
import { hostnameOf, joinNetwork } from './network/join.ts'
import { buildTask, putProcess, putTask, type Task } from './registry.ts'
import { leaveBundle } from './rootfs.ts'
import type { Restore, RuntimeProcess, RuntimeTask } from './runtime/runtime.ts'
import { checkStdio } from './runtime/stdio.ts'
import { fitSpec } from './spec.ts'
import { type Added, type Alive, pidOf } from './task.ts'
import type { CreateOptions, RootfsMount, TasksParts } from './tasks.ts'
import { letRootWalk } from './userns.ts'

/** The thing first (mounts, container), its name last (records, with the event). What fails half-way leaves nothing. */
export async function createTask(
  parts: TasksParts,
  namespace: string,
  id: string,
  options: CreateOptions,
): Promise<number> {
  const { registry, runtime, endings, bundles, limits, log } = parts
  parseIdentifier(id, 'container id')
  using entry = parts.entrance.enter(namespace, options.sandbox)
  const choice = entry.runtime(options.runtime)
  const { shim } = choice
  const stdio = shim ? options.stdio : checkStdio(options.stdio) // a shim has schemes of its own
  const spec = fitSpec(options.spec, limits)
  if (spec.changes.length > 0)
    log.info({ task: id, changes: spec.changes }, 'The host gives less than the container asks for')
  using _ = registry.reserve(namespace, id)
  const bundle = bundleOf(bundles, namespace, id)
  const place = { namespace, id, bundle }
  try {
    await leaveBundle(parts, place) // a crash may have left one
    const joined = entry.spec(id, spec.text)
    const own = options.init === undefined ? joined : withInit(joined, options.init)
    const config = await withNetwork(parts, namespace, id, { spec: own, network: options.network })
    const rootfs = await parts.rootfs.activate(place, options.rootfs)
    makeBundle(bundle, { config, runtime: choice }, shim ? [] : rootfs)
    letRootWalk(dirname(bundles), bundle, config)
    const unborn: RuntimeTask = { namespace, id, bundle, runtime: choice, cgroup: null }
    const life = await make(parts, { task: unborn, execId: '', stdio }, rootfs, options.restore)
    const task = await store(parts, unborn, { ...options, rootfs, sandbox: entry.sandbox }, life).catch(
      async (error) => {
        await runtime.delete(unborn)
        throw error
      },
    )
    registry.add(task)
    endings.follow(task.init)
    return pidOf(life)
  } catch (error) {
    runtime.discard(bundle.processDir(''))
    await leaveBundle(parts, place).catch((err) => log.warn({ err, task: id }, 'Cannot remove a bundle yet'))
    if (options.network) await parts.networks.detach(namespace, id)
    throw error
  }
}

/** What goes on from a checkpoint has no process before it is started. */
async function make(
  { runtime }: TasksParts,
  process: RuntimeProcess,
  rootfs: readonly RootfsMount[],
  restore: Restore | undefined,
): Promise<Alive | Added> {
  if (!restore) return { status: 'created', live: await runtime.create(process, rootfs) }
  await runtime.prepare(process, rootfs, restore)
  return { status: 'added' }
}

/** The specification, joined to the network that is made for it, if there is one. */
async function withNetwork(
  { networks }: TasksParts,
  namespace: string,
  id: string,
  { spec, network }: { readonly spec: string; readonly network: CreateOptions['network'] },
): Promise<string> {
  if (!network) return spec
  return joinNetwork(spec, await networks.attach(namespace, id, network, hostnameOf(spec)))
}

async function store(
  { rows, write, boot }: TasksParts,
  { namespace, id, bundle, runtime }: RuntimeTask,
  { rootfs, stdio, sandbox, restore }: Pick<CreateOptions, 'rootfs' | 'stdio' | 'restore'> & Pick<Task, 'sandbox'>,
  life: Alive | Added,
): Promise<Task> {
  const account = restore ? { cgroup: null, sharesPids: false } : accountOf(pidOf(life), runtime)
  const row = { runtime, ...account, oomSeen: false, sandbox, restore: restore ?? null }
  const task = buildTask({ namespace, id, bundle }, row, { stdio, life })
  await write((emit) => {
    putTask(rows, task, boot)
    putProcess(rows, task.init, task.init.life)
    events.created(
      task,
      emit,
      rootfs.map((mount) => ({ ...mount, options: [...mount.options] })),
      pidOf(life),
    )
  })
  return task
}
