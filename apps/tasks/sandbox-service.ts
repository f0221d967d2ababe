import type { Controller } from '@gantry/api/containerd/services/sandbox/v1/sandbox_pb'
import { Fault } from '@gantry/model/fault'
import type { Implementation } from '@gantry/rpc/service'

/** Who could run a sandbox: shims, of which the stock one does not; Kubernetes' own controller is in its own process. */
const CONTROLLERS = ['shim', 'podsandbox']

/**
 * containerd.services.sandbox.v1.Controller (behaviour facts, 14). Every request names a controller. None runs sandboxes
 * here yet, as containerd's cannot with the stock shim either.
 */
export function sandboxService(): Implementation<typeof Controller> {
  const refuse = ({ sandboxer }: { readonly sandboxer: string }): never => {
    if (sandboxer === '') throw new Fault('invalid-argument', 'Cannot tell who runs the sandbox: no sandboxer is given')
    if (!CONTROLLERS.includes(sandboxer))
      throw new Fault('not-found', `sandbox controller ${JSON.stringify(sandboxer.slice(0, 64))}: not found`)
    throw new Fault('unimplemented', `Sandboxes by ${sandboxer} are not implemented yet`)
  }
  return {
    ...{ create: refuse, start: refuse, platform: refuse, stop: refuse, wait: refuse },
    ...{ status: refuse, shutdown: refuse, metrics: refuse, update: refuse },
  }
}
