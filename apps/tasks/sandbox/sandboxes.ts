import { Fault, ignoring } from '@gantry/model/fault'
import type { NetworkRequest } from '@gantry/model/network'
import { findInit } from '../init.ts'
import type { Registry, Task } from '../registry.ts'
import type { Host } from '../runtime/choose.ts'
import type { RuntimeChoice } from '../runtime/runtime.ts'
import { isAliveLife, isStopped, type Stopped } from '../task.ts'
import type { RootfsMount, Tasks } from '../tasks.ts'
import { removeCgroup } from './cgroup.ts'
import type { Entrance } from './entrance.ts'
import { groupOf, pauseSpec } from './pause.ts'
import type { ShimSandboxes } from './shim.ts'

const SIGTERM = 15
const SIGKILL = 9
const KILLED_MS = 10_000 // how long what was killed may take to end
const NO_STDIO = { stdin: '', stdout: '', stderr: '', terminal: false }

export interface SandboxWish {
  readonly runtime: RuntimeChoice
  /** JSON of the OCI runtime specification, or empty. */
  readonly spec: string
  /** A network namespace that the client has made, or empty. */
  readonly netns: string
  readonly annotations: Readonly<Record<string, string>>
  /** For a shim. */
  readonly rootfs: readonly RootfsMount[]
  /** A network to make for it, when it asks for one; not by a shim. */
  readonly network: NetworkRequest | undefined
}

export interface SandboxesParts {
  /** Sandboxes as tasks: a pause process, or a shim. */
  readonly tasks: Tasks
  readonly registry: Registry
  readonly shims: ShimSandboxes
  readonly entrance: Entrance
  /** The containers of all sandboxes. */
  readonly containers: { readonly registry: Registry; readonly tasks: Tasks }
  readonly host: Pick<Host, 'find'>
  /** Name or path of the program that waits in a sandbox. */
  readonly init: string
  readonly now: () => number
}

/** The use cases of sandboxes. What one is and what became of it is recorded as for a task. */
export type Sandboxes = ReturnType<typeof createSandboxes>

export function createSandboxes(parts: SandboxesParts) {
  const { tasks, registry } = parts
  const find = (namespace: string, id: string): Task => {
    const sandbox = registry.list(namespace).find((each) => each.id === id)
    if (!sandbox) throw new Fault('not-found', `sandbox ${JSON.stringify(id.slice(0, 80))}: not found`)
    return sandbox
  }
  return {
    find,
    has: (namespace: string, id: string): boolean => registry.list(namespace).some((each) => each.id === id),

    /** @throws {Fault} `already-exists`, `invalid-argument`, `failed-precondition` when a program is missing */
    async create(namespace: string, id: string, wish: SandboxWish): Promise<void> {
      if (registry.has(namespace, id))
        throw new Fault('already-exists', `sandbox ${JSON.stringify(id)}: already exists`)
      const { runtime, rootfs, network, netns, annotations } = wish
      const { shim } = runtime
      if (shim) {
        const choice = { ...runtime, shim: { ...shim, sandbox: { netns, annotations } } }
        const spec = Buffer.from(wish.spec || '{}')
        await tasks.create(namespace, id, { spec, rootfs, stdio: NO_STDIO, runtime: choice })
      } else {
        const [program, createdMs] = [findInit(parts.host, parts.init), parts.now()]
        const { spec, cgroup } = pauseSpec({ namespace, id, spec: wish.spec, netns, program, createdMs })
        try {
          await tasks.create(namespace, id, { spec, rootfs: [], stdio: NO_STDIO, runtime, network })
        } catch (error) {
          if (cgroup !== null && !registry.has(namespace, id)) removeCgroup(cgroup) // the runtime removes its own alone
          throw error
        }
      }
    },

    async start(namespace: string, id: string): Promise<void> {
      find(namespace, id)
      await tasks.start(namespace, id, '')
    },

    /** Ends its containers, after `timeoutMs` by force, then itself. It may be repeated. */
    stop: (namespace: string, id: string, timeoutMs: number) => stop(parts, find(namespace, id), timeoutMs),

    /** Resolves when it has ended; gives up when `signal` says so. */
    async wait(namespace: string, id: string, signal: AbortSignal): Promise<Stopped> {
      find(namespace, id)
      const { life } = await tasks.wait(namespace, id, '', signal)
      if (!isStopped(life)) throw new Fault('not-found', `sandbox ${JSON.stringify(id)}: not found`)
      return life
    },

    /** Stops it when it runs, then nothing of it stays but the records of its containers. */
    async shutdown(namespace: string, id: string): Promise<void> {
      const sandbox = find(namespace, id)
      await stop(parts, sandbox, 0)
      const cgroup = cgroupOf(sandbox)
      if (cgroup !== null) removeCgroup(cgroup)
      await tasks.deleteTask(namespace, id)
      parts.entrance.forget(namespace, id)
    },
  }
}

/** The cgroup that all its containers are below; of a shim nobody knows one. */
export function cgroupOf({ runtime, bundle }: Task): string | null {
  return runtime.shim ? null : groupOf(bundle).cgroup
}

async function stop(parts: SandboxesParts, sandbox: Task, timeoutMs: number): Promise<void> {
  const { namespace, id, init, runtime } = sandbox
  await parts.entrance.close(namespace, id)
  if (runtime.shim) await stopShim(parts, sandbox, timeoutMs)
  else {
    await stopContainers(parts, sandbox, timeoutMs) // they may outlive their pause process
    await parts.tasks.kill(namespace, id, '', { signal: SIGKILL, all: false }).catch(() => undefined) // ended already
    await endOf([sandbox], KILLED_MS)
  }
  if (isAliveLife(init.life) && init.life.status !== 'created')
    throw new Fault('deadline-exceeded', `Cannot stop sandbox "${id}": it does not end within ${KILLED_MS} ms`)
}

/** One that has not been started is asked as well, but does not end before it is deleted. */
async function stopShim({ shims }: SandboxesParts, sandbox: Task, timeoutMs: number): Promise<void> {
  const { id, init } = sandbox
  if (!isAliveLife(init.life)) return
  const wish = { sandboxId: id, timeoutSecs: Math.ceil(timeoutMs / 1000) }
  const stopped = shims.call(sandbox, (calls, options) => calls.stopSandbox(wish, options), timeoutMs + KILLED_MS)
  await ignoring('not-found', stopped)
  if (init.life.status !== 'created') await endOf([sandbox], KILLED_MS)
}

async function stopContainers({ containers }: SandboxesParts, { namespace, id }: Task, timeoutMs: number) {
  const alive = (): Task[] =>
    containers.registry.list(namespace).filter(({ sandbox, init }) => sandbox === id && isAliveLife(init.life))
  const signal = (number: number) =>
    Promise.all(
      alive().map((each) =>
        ignoring(
          'not-found',
          containers.tasks.kill(namespace, each.id, '', { signal: number, all: number === SIGKILL }),
        ),
      ),
    )
  if (timeoutMs > 0) {
    await signal(SIGTERM)
    await endOf(alive(), timeoutMs)
  }
  await signal(SIGKILL)
  await endOf(alive(), KILLED_MS)
}

/** Resolves when all have ended, or when the time is up. */
async function endOf(tasks: readonly Task[], withinMs: number): Promise<void> {
  const late = Promise.withResolvers<void>()
  const timer = setTimeout(late.resolve, withinMs)
  await Promise.race([Promise.all(tasks.map(({ init }) => init.ended.promise)), late.promise])
  clearTimeout(timer)
}
