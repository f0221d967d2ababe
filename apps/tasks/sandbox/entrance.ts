import { Fault } from '@gantry/model/fault'
import { bundleOf } from '../bundle.ts'
import type { Registry } from '../registry.ts'
import type { RuntimeChoice } from '../runtime/runtime.ts'
import { readBootstrap } from '../shim/bootstrap.ts'
import { pidOf } from '../task.ts'
import { joinGroup } from './join.ts'
import { groupOf } from './pause.ts'

const SANDBOX_SHIM_VERSION = 3 // from which on a shim takes the containers of its sandbox

/** How a container becomes part of a sandbox. The sandbox is not stopped before it is let go. */
export interface Entry extends Disposable {
  readonly sandbox: string | null
  spec(id: string, spec: string): string
  runtime(choice: RuntimeChoice): RuntimeChoice
}

export interface Entrance {
  /**
   * Holds a sandbox open for a container that is being made; without a sandbox it changes nothing.
   * @throws {Fault} `failed-precondition` for a sandbox that does not run
   */
  enter(namespace: string, sandbox: string | undefined): Entry
  /** Lets nobody in any more, and resolves when those who are on their way are through. */
  close(namespace: string, sandbox: string): Promise<void>
  /** Forgets that it was closed: the sandbox is gone, and its name is free. */
  forget(namespace: string, sandbox: string): void
}

const NONE: Entry = {
  sandbox: null,
  spec: (_id, spec) => spec,
  runtime: (choice) => choice,
  [Symbol.dispose]: () => undefined,
}

/** For tasks that cannot be in a sandbox. */
export const noEntrance: Pick<Entrance, 'enter'> = { enter: () => NONE }

export function createEntrance(sandboxes: Registry, bundles: string): Entrance {
  const entering = new Map<string, Set<PromiseWithResolvers<void>>>()
  const closed = new Set<string>()
  return {
    enter(namespace, id) {
      if (id === undefined || id === '') return NONE
      const key = `${namespace}/${id}`
      const process = sandboxes.list(namespace).find((each) => each.id === id)?.init
      if (process?.life.status !== 'running' || closed.has(key))
        throw new Fault('failed-precondition', `Cannot run a container in sandbox "${id}": it does not run`)
      const bundle = bundleOf(bundles, namespace, id)
      const done = Promise.withResolvers<void>()
      const others = entering.get(key) ?? new Set()
      entering.set(key, others.add(done))
      const leave = (): void => {
        done.resolve()
        others.delete(done)
        if (others.size === 0) entering.delete(key)
      }
      if (process.task.runtime.shim) return { ...NONE, ...byShim(process.task), sandbox: id, [Symbol.dispose]: leave }
      const group = { ...groupOf(bundle), pid: pidOf(process.life) }
      const spec: Entry['spec'] = (container, text) => joinGroup(text, { namespace, id: container }, group)
      return { ...NONE, sandbox: id, spec, [Symbol.dispose]: leave }
    },
    async close(namespace, id) {
      const key = `${namespace}/${id}`
      closed.add(key)
      await Promise.all([...(entering.get(key) ?? [])].map(({ promise }) => promise))
    },
    forget: (namespace, id) => void closed.delete(`${namespace}/${id}`),
  }
}

/** A shim that takes the containers of its sandbox is given them, unless the client has named another one. */
function byShim(sandbox: Parameters<typeof readBootstrap>[0]): Pick<Entry, 'runtime'> {
  const { address = '', version = 0, protocol = '' } = readBootstrap(sandbox) ?? {}
  return {
    runtime: (choice) =>
      version < SANDBOX_SHIM_VERSION || choice.shim?.joins
        ? choice
        : {
            ...choice,
            shim: { binary: '', joins: { address, version, protocol }, options: choice.shim?.options ?? null },
          },
  }
}
