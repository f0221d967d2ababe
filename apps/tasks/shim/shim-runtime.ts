import { setTimeout as sleep } from 'node:timers/promises'
import { create as message, toBinary } from '@bufbuild/protobuf'
import type { Task as TaskDescriptor } from '@gantry/api/containerd/runtime/task/v3/shim_pb'
import { CheckpointOptionsSchema } from '@gantry/api/containerd/types/runc/options/oci_pb'
import { Status } from '@gantry/api/containerd/types/task/task_pb'
import { identify, isAlive, type ProcessId, sendSignal } from '@gantry/linux/process'
import { Fault, ignoring, isFault } from '@gantry/model/fault'
import type { Client } from '@gantry/rpc/client'
import type { Process as Service } from '@gantry/service/process'
import type { Runtime, RuntimeProcess, RuntimeTask, ShimChoice, TaskStatus, Watcher } from '../runtime/runtime.ts'
import type { Exit, Live } from '../task.ts'
import { readBootstrap, removeSocket, runDelete, type ShimParts, saveBootstrap, startShim } from './bootstrap.ts'
import type { Links } from './link.ts'

const MAKE_MS = 60_000 // create, start, exec: what may take long
const CALL_MS = 10_000
const STATE_MS = 2000 // the state, as in containerd
const SHUTDOWN_MS = 3000
const RETRY_MS = 500 // between two attempts to reach a shim that lives
const SIGKILL = 9
const LOST = 128 + SIGKILL
const SPEC = 'types.containerd.io/opencontainers/runtime-spec/1/'

export interface ShimRuntimeParts extends ShimParts {
  readonly links: Links
  readonly now: () => number
  readonly log: Service['log']
}

type Calls = Client<typeof TaskDescriptor>

/**
 * Containers by shims that others wrote, over the runtime protocol of containerd (behaviour facts, 16). What a task is and
 * what has become of it is recorded here as for any other; the shim is asked only to do things, and waited for.
 * No call waits for ever, so a shim that hangs holds up nothing but its own task.
 */
export function createShimRuntime(parts: ShimRuntimeParts): Runtime {
  const { links, log } = parts
  const call = async <T>(
    task: RuntimeTask,
    make: (calls: Calls, options: Options) => Promise<T>,
    timeoutMs = CALL_MS,
  ) => make((await links.of(task)).client, { signal: NEVER, namespace: task.namespace, timeoutMs })
  return {
    create: (process, rootfs) => create(parts, process, rootfs),
    start: async (task) => void (await call(task, (calls, options) => calls.start({ id: task.id }, options), MAKE_MS)),
    prepare: async (process, rootfs, { images }) => void (await create(parts, process, rootfs, images)),
    async restore({ task }) {
      const { id } = task
      const { pid } = await call(task, (calls, options) => calls.start({ id }, options), MAKE_MS).catch(
        async (error) => {
          const { taskPid } = await call(task, (calls, options) => calls.connect({ id }, options))
          if (taskPid === 0) throw error
          return { pid: taskPid } // started for a call that was cut short
        },
      )
      return liveOf(pid, readBootstrap(task)?.process)
    },
    async exec({ task, execId, stdio }, spec) {
      const { id } = task
      const added = { id, execId, ...stdio, spec: { typeUrl: `${SPEC}Process`, value: Buffer.from(spec) } }
      await call(task, (calls, options) => calls.exec(added, options))
      try {
        const { pid } = await call(task, (calls, options) => calls.start({ id, execId }, options), MAKE_MS)
        return liveOf(pid, readBootstrap(task)?.process)
      } catch (error) {
        await call(task, (calls, options) => calls.delete({ id, execId }, options)).catch(() => undefined)
        throw error
      }
    },
    async kill({ task, execId }, _live, signal) {
      const sent = await ignoring(
        'not-found',
        call(task, (calls, options) => calls.kill({ id: task.id, execId, signal }, options)),
      )
      return sent !== undefined
    },
    killAll: async (task, _live, signal) =>
      void (await call(task, (calls, options) => calls.kill({ id: task.id, signal, all: true }, options))),
    pause: async (task) => void (await call(task, (calls, options) => calls.pause({ id: task.id }, options))),
    resume: async (task) => void (await call(task, (calls, options) => calls.resume({ id: task.id }, options))),
    async update(task, text) {
      const resources = { typeUrl: `${SPEC}LinuxResources`, value: Buffer.from(text) }
      await call(task, (calls, options) => calls.update({ id: task.id, resources }, options))
    },
    async checkpoint(task, wish) {
      const value = toBinary(CheckpointOptionsSchema, message(CheckpointOptionsSchema, wish))
      const what = { id: task.id, path: wish.imagePath, options: { typeUrl: CheckpointOptionsSchema.typeName, value } }
      await call(task, (calls, options) => calls.checkpoint(what, options), MAKE_MS)
    },
    async pids(task) {
      const { processes } = await call(task, (calls, options) => calls.pids({ id: task.id }, options))
      return processes.map(({ pid }) => pid)
    },
    async status(task) {
      const { status } = await call(task, (calls, options) => calls.state({ id: task.id }, options), STATE_MS)
      return STATUS[status] ?? 'stopped'
    },
    async resize({ task, execId }, _live, { columns, rows }) {
      const size = { id: task.id, execId, width: columns, height: rows }
      await call(task, (calls, options) => calls.resizePty(size, options))
    },
    closeInput: async ({ task, execId }) =>
      void (await call(task, (calls, options) => calls.closeIO({ id: task.id, execId, stdin: true }, options))),
    endInput: () => undefined,
    async release({ task, execId }) {
      if (execId === '') return
      const gone = call(task, (calls, options) => calls.delete({ id: task.id, execId }, options))
      await gone.catch((err) => log.debug({ err, task: task.id }, 'The shim does not forget an exec'))
    },
    delete: (task) => remove(parts, task),
    discard: () => undefined,
    watch(process, live, watcher) {
      const stop = new AbortController()
      void follow(parts, process, { live, watcher, signal: stop.signal })
      return { [Symbol.dispose]: () => stop.abort() }
    },
  }
}

type Options = { readonly signal: AbortSignal; readonly namespace: string; readonly timeoutMs: number }
const NEVER = new AbortController().signal

const STATUS: Partial<Record<Status, TaskStatus>> = {
  [Status.CREATED]: 'created',
  [Status.RUNNING]: 'running',
  [Status.PAUSED]: 'paused',
  [Status.PAUSING]: 'paused',
}

async function create(
  parts: ShimRuntimeParts,
  { task, stdio }: RuntimeProcess,
  rootfs: Parameters<Runtime['create']>[1],
  checkpoint = '',
): Promise<Live> {
  const { binary, options, joins } = shimOf(task)
  const { namespace, id, bundle } = task
  const wanted = {
    ...{
      id,
      bundle: bundle.dir,
      ...stdio,
      checkpoint,
      rootfs: rootfs.map((each) => ({ ...each, options: [...each.options] })),
    },
    ...(options === null ? {} : { options: { typeUrl: options.typeUrl, value: Buffer.from(options.value, 'base64') } }),
  }
  try {
    if (!joins) parts.links.follow(task)
    const bootstrap = joins ? saveBootstrap(task, joins) : await startShim(parts, task, binary)
    const make = async () =>
      (await parts.links.of(task)).client.create(wanted, { signal: NEVER, namespace, timeoutMs: MAKE_MS })
    const { pid } = await make().catch(async (error) => {
      if (bootstrap.version !== 3 || bootstrap.protocol !== 'ttrpc' || !isFault(error, 'unimplemented')) throw error
      await parts.links.close(task)
      saveBootstrap(task, { ...bootstrap, version: 2 }) // it has promised more than it can
      return make()
    })
    const { client } = await parts.links.of(task)
    const { shimPid } = await client.connect({ id }, { signal: NEVER, namespace, timeoutMs: CALL_MS })
    const shim = identify(shimPid)
    if (shim !== undefined) saveBootstrap(task, { ...bootstrap, ...readBootstrap(task), process: shim })
    return liveOf(pid, shim)
  } catch (error) {
    await remove(parts, task)
    if (error instanceof Fault) throw new Fault(error.code, `failed to create shim task: ${error.message}`)
    throw error
  }
}

/** Waits for the end of a process, over as many connections as it takes, or for that of its shim. */
async function follow(
  parts: ShimRuntimeParts,
  { task, execId }: RuntimeProcess,
  { live, watcher, signal }: { live: Live; watcher: Watcher; signal: AbortSignal },
): Promise<void> {
  for (;;) {
    try {
      const { client } = await parts.links.of(task)
      const { exitStatus, exitedAt } = await client.wait({ id: task.id, execId }, { signal, namespace: task.namespace })
      const atMs = exitedAt === undefined ? 0 : Number(exitedAt.seconds) * 1000 + exitedAt.nanos / 1e6
      return watcher.onExit({ status: exitStatus, atMs: atMs > 0 ? atMs : parts.now() })
    } catch (error) {
      if (signal.aborted) return
      if (!isAlive(live.monitor) || isFault(error, 'not-found'))
        return watcher.onExit(await lost(parts, task, execId, live))
    }
    await sleep(RETRY_MS)
    if (signal.aborted) return
  }
}

/** The end of a process whose shim is gone: the shim's own program cleans up after it. */
async function lost(parts: ShimRuntimeParts, task: RuntimeTask, execId: string, live: Live): Promise<Exit> {
  sendSignal(live.process, SIGKILL)
  if (execId === '' && !shimOf(task).joins)
    await runDelete(parts, task, shimOf(task).binary).catch((err) =>
      parts.log.warn({ err, task: task.id }, 'Cannot clean up after a shim that is gone'),
    )
  return { status: LOST, atMs: parts.now() }
}

/** Has the shim forget its task and end; one that does not is killed, and its program cleans up. */
async function remove(parts: ShimRuntimeParts, task: RuntimeTask): Promise<void> {
  const { links, log } = parts
  const { id, namespace } = task
  const bootstrap = readBootstrap(task)
  try {
    const { client } = await links.of(task)
    await ignoring('not-found', client.delete({ id }, { signal: NEVER, namespace, timeoutMs: CALL_MS }))
    if (shimOf(task).joins) return
    await client.shutdown({ id }, { signal: NEVER, namespace, timeoutMs: SHUTDOWN_MS }).catch(() => undefined)
  } catch (err) {
    if (shimOf(task).joins) return log.warn({ err, task: id }, 'A shim of somebody else does not let go of a task')
    if (bootstrap?.process !== undefined) sendSignal(bootstrap.process, SIGKILL)
    if (bootstrap !== undefined) {
      await runDelete(parts, task, shimOf(task).binary).catch((err) =>
        log.warn({ err, task: id }, 'Cannot clean up after a shim'),
      )
      removeSocket(bootstrap.address)
    }
  } finally {
    await links.close(task)
  }
}

function shimOf({ id, runtime }: RuntimeTask): ShimChoice {
  if (!runtime.shim) throw new Error(`Task ${id} has no shim`)
  return runtime.shim
}

function liveOf(pid: number, shim: ProcessId | undefined): Live {
  const process = identify(pid) ?? { pid, startTime: '0' }
  return { process, monitor: shim ?? process, input: null, output: null, logger: null }
}
