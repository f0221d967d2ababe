import { create } from '@bufbuild/protobuf'
import type { Store } from '@gantry/api/containerd/services/sandbox/v1/sandbox_pb'
import { SandboxSchema } from '@gantry/api/containerd/types/sandbox_pb'
import type { Implementation } from '@gantry/rpc/service'
import type { Sandboxes } from './sandboxes.ts'

/** containerd.services.sandbox.v1.Store: records of sandboxes; who runs them is asked through the controller. */
export function sandboxStoreService(sandboxes: Sandboxes): Implementation<typeof Store> {
  return {
    async create({ sandbox = create(SandboxSchema) }, { namespace }) {
      return { sandbox: await sandboxes.create(namespace, sandbox) }
    },

    async update({ sandbox = create(SandboxSchema), fields }, { namespace }) {
      return { sandbox: await sandboxes.update(namespace, sandbox, fields) }
    },

    async delete({ sandboxId }, { namespace }) {
      await sandboxes.delete(namespace, sandboxId)
      return {}
    },

    async list({ filters }, { namespace }) {
      return { list: sandboxes.list(namespace, filters) }
    },

    async get({ sandboxId }, { namespace }) {
      return { sandbox: sandboxes.get(namespace, sandboxId) }
    },
  }
}
