import type { Controller } from '@gantry/api/containerd/services/sandbox/v1/sandbox_pb'
import { type Implementation, unimplemented } from '@gantry/rpc/service'

/** containerd.services.sandbox.v1.Controller: sandboxes are run by external shims, which are not supported yet. */
export function sandboxService(): Implementation<typeof Controller> {
  const refuse = unimplemented('The sandbox controller')
  return {
    ...{ create: refuse, start: refuse, platform: refuse, stop: refuse, wait: refuse },
    ...{ status: refuse, shutdown: refuse, metrics: refuse, update: refuse },
  }
}
