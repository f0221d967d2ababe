import { join } from 'node:path'
import type { Store } from '@gantry/store/store'
import { adopt } from '../adopt.ts'
import { bundlesIn } from '../bundle.ts'
import { createEndings, type EndingParts } from '../ending.ts'
import type { Networks } from '../network/networks.ts'
import { keepReconciled } from '../reconcile.ts'
import { createRegistry } from '../registry.ts'
import { plainRootfs } from '../rootfs.ts'
import { openRows } from '../rows.ts'
import type { Host } from '../runtime/choose.ts'
import { routeRuntime } from '../runtime/route.ts'
import type { Runtime } from '../runtime/runtime.ts'
import { createTasks, type TasksParts } from '../tasks.ts'
import { createEntrance, noEntrance } from './entrance.ts'
import { sandboxWrite } from './events.ts'
import type { ShimSandboxes } from './shim.ts'

export interface OpenParts extends Pick<EndingParts, 'write' | 'boot' | 'now' | 'log'>, Pick<TasksParts, 'limits'> {
  readonly store: Store
  /** The state folder of Gantry. */
  readonly state: string
  readonly host: Host
  readonly builtIn: Runtime
  readonly shims: ShimSandboxes
  readonly networks: Networks
}

/**
 * Sandboxes as tasks: each is one process, the pause program in namespaces of its own or a shim, with tables, bundles and
 * runtime state beside those of containers. So they are started, ended, adopted after a crash and cleaned up by the same
 * code; the world hears of sandboxes only.
 */
export async function openSandboxTasks(parts: OpenParts) {
  const { store, host, builtIn, shims, networks, boot, now, log, limits } = parts
  const state = sandboxState(parts.state)
  const shared = {
    ...{ rows: openRows(store, 'sandbox-'), write: sandboxWrite(parts.write) },
    ...{ runtime: routeRuntime(builtIn, shims.runtime), boot, now, log },
    onEnd: (namespace: string, id: string) => void networks.detach(namespace, id),
  }
  const registry = createRegistry()
  const taskParts = {
    ...{ ...shared, registry, networks, limits, entrance: noEntrance, rootfs: plainRootfs },
    ...{ endings: createEndings(shared), bundles: bundlesIn(state) },
  }
  await adopt(taskParts)
  const reconciled = await keepReconciled({ ...taskParts, state, host })
  const entrance = createEntrance(registry, taskParts.bundles)
  return { registry, entrance, tasks: createTasks(taskParts), [Symbol.dispose]: () => reconciled[Symbol.dispose]() }
}

/** Where sandboxes keep what containers keep in the state folder itself: bundles, and the OCI runtime's own state. */
export function sandboxState(state: string): string {
  return join(state, 'sandboxes')
}
