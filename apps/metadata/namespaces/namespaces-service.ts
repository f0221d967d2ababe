import type { Namespaces as NamespacesDesc } from '@gantry/api/containerd/services/namespaces/v1/namespace_pb'
import { parseNamespace } from '@gantry/model/namespace'
import type { Implementation } from '@gantry/rpc/service'
import type { Namespaces } from './namespaces.ts'

/** containerd.services.namespaces.v1.Namespaces. Needs no namespace header: the request names the one it is about. */
export function namespacesService(namespaces: Namespaces): Implementation<typeof NamespacesDesc> {
  return {
    async get({ name }) {
      return { namespace: namespaces.get(name) }
    },

    async list(_request, { signal }) {
      return { namespaces: await namespaces.list(signal) }
    },

    async create({ namespace }, { signal }) {
      const { name = '', labels = {} } = namespace ?? {}
      return { namespace: await namespaces.create(parseNamespace(name), labels, signal) }
    },

    /** Like containerd, answers without the namespace. */
    async update({ namespace, updateMask }) {
      const { name = '', labels = {} } = namespace ?? {}
      await namespaces.update(parseNamespace(name), labels, updateMask?.paths ?? [])
      return {}
    },

    async delete({ name }, { signal }) {
      await namespaces.delete(name, signal)
      return {}
    },
  }
}
