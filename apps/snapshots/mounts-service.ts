import type { MessageInitShape } from '@bufbuild/protobuf'
import type { Mounts } from '@gantry/api/containerd/services/mounts/v1/mounts_pb'
import type { ActivationInfoSchema } from '@gantry/api/containerd/types/mount_pb'
import { toTimestamp } from '@gantry/model/clock'
import { type Implementation, unimplemented } from '@gantry/rpc/service'
import type { Activations } from './mounts/activations.ts'
import type { Activation } from './mounts/active.ts'
import { fromWire } from './wire.ts'

/** containerd.services.mounts.v1.Mounts: parse the request, ask `activations`, shape the reply. */
export function mountsService(activations: Activations): Implementation<typeof Mounts> {
  return {
    async activate({ name, mounts, labels, temporary }, { namespace, lease, signal }) {
      const what = { name, mounts: mounts.map(fromWire), labels, temporary, lease }
      const activation = await activations.activate(namespace, what, signal)
      return { info: toInfo(name, activation) }
    },

    async deactivate({ name }, { namespace }) {
      await activations.deactivate(namespace, name)
      return {}
    },

    async info({ name }, { namespace }) {
      return { info: toInfo(name, activations.info(namespace, name)) }
    },

    update: unimplemented('Update of an active mount'), // as with containerd

    /** Filters are ignored, as containerd does. */
    async *list(_, { namespace, signal }) {
      for (const { name, activation } of activations.list(namespace)) {
        signal.throwIfAborted()
        yield { info: toInfo(name, activation) }
      }
    },
  }
}

function toInfo(name: string, { active, system, labels }: Activation): MessageInitShape<typeof ActivationInfoSchema> {
  return {
    name,
    active: active.map(({ mount, point, mountedAt }) => ({
      mount,
      mountPoint: point,
      mountedAt: toTimestamp(mountedAt),
    })),
    system: [...system],
    labels: { ...labels },
  }
}
