import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fromBinary, toBinary } from '@bufbuild/protobuf'
import {
  type Sandbox,
  type StartSandboxResponse,
  StartSandboxResponseSchema,
} from '@gantry/api/containerd/runtime/sandbox/v1/sandbox_pb'
import { identify, isAlive, sendSignal } from '@gantry/linux/process'
import { Fault, ignoring, isFault } from '@gantry/model/fault'
import type { Client } from '@gantry/rpc/client'
import { unimplemented } from '@gantry/rpc/service'
import type { Runtime, RuntimeTask, ShimChoice, Watcher } from '../runtime/runtime.ts'
import { type Bootstrap, readBootstrap, removeSocket, runDelete, saveBootstrap, startShim } from '../shim/bootstrap.ts'
import type { Link } from '../shim/link.ts'
import type { ShimRuntimeParts } from '../shim/shim-runtime.ts'
import type { Live } from '../task.ts'

const MAKE_MS = 60_000
const CALL_MS = 10_000
const SHUTDOWN_MS = 3000
const RETRY_MS = 500 // between two attempts to reach a shim that lives
const STEP_MS = 20
const SIGKILL = 9
const LOST = 128 + SIGKILL
const STARTED = 'started.bin' // what the shim answered to StartSandbox, in the bundle

type Calls = Client<typeof Sandbox>
type Options = { readonly signal: AbortSignal; readonly namespace: string; readonly timeoutMs: number }
const NEVER = new AbortController().signal

/** Sandboxes by shims that others wrote: one shim is one sandbox (behaviour facts, 14). */
export interface ShimSandboxes {
  /** The part that the life of a task has in common with that of a sandbox. */
  readonly runtime: Runtime
  /** One call to the shim of a sandbox; never longer than `timeoutMs`, 10 s unless told. */
  call<T>(sandbox: RuntimeTask, make: (calls: Calls, options: Options) => Promise<T>, timeoutMs?: number): Promise<T>
  /** What it answered when it was started; undefined before. */
  started(sandbox: RuntimeTask): StartSandboxResponse | undefined
}

export function createShimSandboxes(parts: ShimRuntimeParts): ShimSandboxes {
  const call: ShimSandboxes['call'] = async (sandbox, make, timeoutMs = CALL_MS) => {
    const { sandbox: calls } = await parts.links.of(sandbox)
    return make(calls, { signal: NEVER, namespace: sandbox.namespace, timeoutMs })
  }
  const starts = new Map<string, PromiseWithResolvers<void>>() // who waits for a start
  const refuse = unimplemented('What a container does, for a whole sandbox,')
  const runtime: Runtime = {
    create: ({ task }, rootfs) => create(parts, task, rootfs),
    async start(task) {
      const reply = await call(task, (calls, options) => calls.startSandbox({ sandboxId: task.id }, options), MAKE_MS)
      const path = join(task.bundle.dir, STARTED)
      writeFileSync(`${path}.new`, toBinary(StartSandboxResponseSchema, reply), { mode: 0o600 })
      renameSync(`${path}.new`, path)
      starts.get(task.bundle.dir)?.resolve()
    },
    /** Whatever the signal: a shim knows no gentler end of a sandbox than this one. */
    async kill({ task }) {
      const stopped = call(task, (calls, options) => calls.stopSandbox({ sandboxId: task.id }, options))
      return (await ignoring('not-found', stopped)) !== undefined
    },
    delete: (task) => remove(parts, task),
    watch({ task }, live, watcher) {
      const stop = new AbortController()
      const start = Promise.withResolvers<void>()
      if (started(task)) start.resolve()
      else starts.set(task.bundle.dir, start)
      void follow(parts, task, { live, watcher, start: start.promise, signal: stop.signal })
      return { [Symbol.dispose]: () => stop.abort() }
    },
    endInput: () => undefined,
    release: async () => undefined,
    discard: () => undefined,
    ...{
      prepare: refuse,
      restore: refuse,
      exec: refuse,
      killAll: refuse,
      pause: refuse,
      resume: refuse,
      update: refuse,
      checkpoint: refuse,
    },
    ...{
      pids: refuse,
      status: async (task) => (started(task) ? 'running' : 'created'),
      resize: refuse,
      closeInput: refuse,
    },
  }
  return { runtime, call, started }
}

function started({ bundle }: RuntimeTask): StartSandboxResponse | undefined {
  const path = join(bundle.dir, STARTED)
  return existsSync(path) ? fromBinary(StartSandboxResponseSchema, readFileSync(path)) : undefined
}

async function create(
  parts: ShimRuntimeParts,
  task: RuntimeTask,
  rootfs: Parameters<Runtime['create']>[1],
): Promise<Live> {
  const { links } = parts
  const { binary, options, sandbox = { netns: '', annotations: {} } } = shimOf(task)
  const wanted = {
    ...{ sandboxId: task.id, bundlePath: task.bundle.dir, netnsPath: sandbox.netns },
    ...{
      annotations: { ...sandbox.annotations },
      rootfs: rootfs.map((each) => ({ ...each, options: [...each.options] })),
    },
    ...(options && { options: { typeUrl: options.typeUrl, value: Buffer.from(options.value, 'base64') } }),
  }
  try {
    links.follow(task)
    const bootstrap = await startShim(parts, task, binary)
    const link = await links.of(task)
    const call = { signal: NEVER, namespace: task.namespace, timeoutMs: MAKE_MS }
    await link.sandbox.createSandbox(wanted, call)
    return await liveOf(task, bootstrap, link)
  } catch (error) {
    await remove(parts, task)
    if (error instanceof Fault) throw new Fault(error.code, `failed to create sandbox: ${error.message}`)
    throw error
  }
}

/** The shim stands for its sandbox. One that does not tell its pid is gone when its connection is. */
async function liveOf(task: RuntimeTask, bootstrap: Bootstrap, { client }: Link): Promise<Live> {
  const call = { signal: NEVER, namespace: task.namespace, timeoutMs: CALL_MS }
  const { shimPid } = await client.connect({ id: task.id }, call).catch(() => ({ shimPid: 0 }))
  const process = shimPid > 0 ? identify(shimPid) : undefined
  if (process) saveBootstrap(task, { ...bootstrap, process })
  const known = process ?? { pid: shimPid, startTime: '0' }
  return { process: known, monitor: known, input: null, output: null, logger: null }
}

/** Waits for the end of a sandbox that has been started, over as many connections as it takes, or for that of its shim. */
async function follow(
  parts: ShimRuntimeParts,
  task: RuntimeTask,
  { live, watcher, start, signal }: { live: Live; watcher: Watcher; start: Promise<void>; signal: AbortSignal },
): Promise<void> {
  while (!signal.aborted) {
    try {
      const link = await parts.links.of(task)
      const isLost = link.closed.then(() => true)
      if (await Promise.race([start.then(() => false), isLost])) throw new Fault('unavailable', 'the shim is gone')
      const { exitStatus, exitedAt } = await link.sandbox.waitSandbox(
        { sandboxId: task.id },
        { signal, namespace: task.namespace },
      )
      const atMs = exitedAt === undefined ? 0 : Number(exitedAt.seconds) * 1000 + exitedAt.nanos / 1e6
      return watcher.onExit({ status: exitStatus, atMs: atMs > 0 ? atMs : parts.now() })
    } catch (error) {
      if (signal.aborted) return
      if (!isAlive(live.monitor) || isFault(error, 'not-found')) {
        await cleanUp(parts, task)
        return watcher.onExit({ status: LOST, atMs: parts.now() })
      }
    }
    await sleep(RETRY_MS)
  }
}

/** Shuts the sandbox down, and its shim with it; one that does not end is killed, and its program cleans up. */
async function remove(parts: ShimRuntimeParts, task: RuntimeTask): Promise<void> {
  const { links } = parts
  try {
    const call = { signal: NEVER, namespace: task.namespace, timeoutMs: CALL_MS }
    const { sandbox } = await links.of(task)
    await ignoring('not-found', sandbox.shutdownSandbox({ sandboxId: task.id }, call))
    const shim = readBootstrap(task)?.process
    const deadline = performance.now() + SHUTDOWN_MS
    while (shim && isAlive(shim) && performance.now() < deadline) await sleep(STEP_MS)
    if (shim && isAlive(shim)) await cleanUp(parts, task)
  } catch {
    await cleanUp(parts, task)
  } finally {
    await links.close(task)
  }
}

/** After a shim that is gone, or has to go. */
async function cleanUp(parts: ShimRuntimeParts, task: RuntimeTask): Promise<void> {
  const bootstrap = readBootstrap(task)
  if (bootstrap === undefined) return
  if (bootstrap.process) sendSignal(bootstrap.process, SIGKILL)
  await runDelete(parts, task, shimOf(task).binary).catch((err) =>
    parts.log.warn({ err, sandbox: task.id }, 'Cannot clean up after the shim of a sandbox'),
  )
  removeSocket(bootstrap.address)
}

function shimOf({ id, runtime }: RuntimeTask): ShimChoice {
  if (!runtime.shim) throw new Error(`Sandbox ${id} has no shim`)
  return runtime.shim
}
