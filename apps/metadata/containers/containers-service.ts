import { create } from '@bufbuild/protobuf'
import {
  ContainerSchema,
  type Containers as ContainersDesc,
} from '@gantry/api/containerd/services/containers/v1/containers_pb'
import type { Implementation } from '@gantry/rpc/service'
import type { Containers } from './containers.ts'

/** containerd.services.containers.v1.Containers. */
export function containersService(containers: Containers): Implementation<typeof ContainersDesc> {
  return {
    async get({ id }, { namespace }) {
      return { container: containers.get(namespace, id) }
    },

    async list({ filters }, { namespace }) {
      return { containers: containers.list(namespace, filters) }
    },

    async *listStream({ filters }, { namespace }) {
      for (const container of containers.list(namespace, filters)) yield { container }
    },

    async create({ container = create(ContainerSchema) }, { namespace }) {
      return { container: await containers.create(namespace, container) }
    },

    async update({ container = create(ContainerSchema), updateMask }, { namespace }) {
      return { container: await containers.update(namespace, container, updateMask?.paths ?? []) }
    },

    async delete({ id }, { namespace }) {
      await containers.delete(namespace, id)
      return {}
    },
  }
}
