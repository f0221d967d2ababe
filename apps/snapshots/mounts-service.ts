import type { Mounts } from '@gantry/api/containerd/services/mounts/v1/mounts_pb'
import { type Implementation, unimplemented } from '@gantry/rpc/service'

/** containerd.services.mounts.v1.Mounts: there is nothing here that a client could not mount itself, which this answer tells it. */
export function mountsService(): Implementation<typeof Mounts> {
  const handler = unimplemented('Mounts')
  return { activate: handler, deactivate: handler, info: handler, update: handler, list: handler }
}
