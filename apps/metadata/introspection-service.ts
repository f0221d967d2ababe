import type { Introspection } from '@gantry/api/containerd/services/introspection/v1/introspection_pb'
import type { Implementation } from '@gantry/rpc/service'
import { introspectionOf, type Plugin } from '@gantry/service/plugins'
import type { Identity } from './identity.ts'

/** Parts that serve others inside of the process, under the names clients know them by. */
const SERVICES = ['containers', 'images', 'namespaces']
/** Parts that serve clients. */
const GRPC = ['containers', 'images', 'leases', 'namespaces', 'sandboxes']

/** containerd.services.introspection.v1.Introspection: the parts of this process, and who the installation is. */
export function introspectionService(identity: Identity, records: string): Implementation<typeof Introspection> {
  return {
    ...introspectionOf(pluginsOf(records)),

    async server() {
      return { ...identity, deprecations: [] }
    },
  }
}

/** @param records folder of the records, which clients are told */
function pluginsOf(records: string): Plugin[] {
  const metadata = 'io.containerd.metadata.v1'
  const leases = 'io.containerd.lease.v1'
  const service = 'io.containerd.service.v1'
  return [
    { type: metadata, id: 'bolt', exports: { policy: 'shared', path: records } },
    { type: leases, id: 'manager', requires: [metadata] },
    { type: 'io.containerd.sandbox.store.v1', id: 'local', requires: [metadata] },
    ...SERVICES.map((name) => ({ type: service, id: `${name}-service`, requires: [metadata] })),
    ...GRPC.map((name) => ({
      type: 'io.containerd.grpc.v1',
      id: name,
      requires: [name === 'leases' ? leases : service],
    })),
  ]
}
