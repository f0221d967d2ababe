import { traced } from '@gantry/rpc/scope'
import type { Runtime, RuntimeTask } from './runtime.ts'

/** The same runtime; its long steps are spans of their calls. */
export function tracedRuntime(runtime: Runtime): Runtime {
  return {
    ...runtime,
    create: (process, rootfs) => traced('create container', about(process.task), () => runtime.create(process, rootfs)),
    start: (task) => traced('start container', about(task), () => runtime.start(task)),
    restore: (process, from) => traced('restore container', about(process.task), () => runtime.restore(process, from)),
    exec: (process, spec) => traced('start exec', about(process.task), () => runtime.exec(process, spec)),
    delete: (task) => traced('delete container', about(task), () => runtime.delete(task)),
  }
}

function about({ namespace, id, runtime }: RuntimeTask) {
  return {
    'containerd.namespace': namespace,
    'container.id': id,
    'container.runtime': runtime.shim?.binary || runtime.binary,
  }
}
