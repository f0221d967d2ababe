import { Namespaces } from '@gantry/api/containerd/services/namespaces/v1/namespace_pb'
import { type Channel, clientOf } from '@gantry/rpc/client'
import { type Implementation, pathOf } from '@gantry/rpc/service'
import type { Caller } from './caller.ts'
import { denied } from './guard.ts'
import type { Kind } from './methods.ts'
import type { Rights } from './policy.ts'

/** containerd.services.namespaces.v1.Namespaces for a caller who may not know of every namespace. */
export function namespacesWithin(
  now: () => Rights,
  caller: Caller,
  metadata: Channel,
): Implementation<typeof Namespaces> {
  const owner = clientOf(Namespaces, metadata)
  const { method } = Namespaces

  function ask(name: string, kind: Kind, path: string): void {
    if (!now().may(name, kind)) throw denied(caller, path, name)
  }

  return {
    async get(request, { signal }) {
      ask(request.name, 'read', pathOf(method.get))
      return owner.get(request, { signal })
    },
    async list(request, { signal }) {
      const { namespaces } = await owner.list(request, { signal })
      const rights = now()
      return { namespaces: namespaces.filter(({ name }) => rights.may(name, 'read')) }
    },
    async create(request, { signal }) {
      ask(request.namespace?.name ?? '', 'write', pathOf(method.create))
      return owner.create(request, { signal })
    },
    async update(request, { signal }) {
      ask(request.namespace?.name ?? '', 'write', pathOf(method.update))
      return owner.update(request, { signal })
    },
    async delete(request, { signal }) {
      ask(request.name, 'write', pathOf(method.delete))
      return owner.delete(request, { signal })
    },
  }
}
