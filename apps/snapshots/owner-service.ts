import type { Owner } from '@gantry/api/gantry/owner/v1/owner_pb'
import type { Implementation } from '@gantry/rpc/service'
import type { Snapshots } from './snapshots.ts'

/** gantry.owner.v1.Owner: what this process keeps, for those who decide about whole namespaces. */
export function ownerService(snapshots: Snapshots): Implementation<typeof Owner> {
  return {
    async holdings() {
      return {
        holdings: Array.from(snapshots.scopes(), ({ namespace, snapshotter }) => ({
          namespace,
          snapshotters: [snapshotter],
        })),
      }
    },
  }
}
