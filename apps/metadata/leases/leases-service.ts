import type { Leases as LeasesDesc } from '@gantry/api/containerd/services/leases/v1/leases_pb'
import type { Implementation } from '@gantry/rpc/service'
import type { Collector } from '../collect/schedule.ts'
import type { Leases } from './leases.ts'

/** containerd.services.leases.v1.Leases */
export function leasesService(
  leases: Leases,
  collector: Pick<Collector, 'runAfterDelete'>,
): Implementation<typeof LeasesDesc> {
  return {
    async create({ id, labels }, { namespace }) {
      return { lease: await leases.create(namespace, id, labels) }
    },

    async delete({ id, sync }, { namespace, signal }) {
      await leases.delete(namespace, id)
      if (sync) await collector.runAfterDelete(signal)
      return {}
    },

    async list({ filters }, { namespace }) {
      return { leases: leases.list(namespace, filters) }
    },

    async addResource({ id, resource }, { namespace }) {
      await leases.add(namespace, id, resource)
      return {}
    },

    async deleteResource({ id, resource }, { namespace }) {
      await leases.remove(namespace, id, resource)
      return {}
    },

    async listResources({ id }, { namespace }) {
      return { resources: leases.resources(namespace, id) }
    },
  }
}
