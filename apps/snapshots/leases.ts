import { Leases } from '@gantry/api/containerd/services/leases/v1/leases_pb'
import { ignoring } from '@gantry/model/fault'
import { type Channel, clientOf } from '@gantry/rpc/client'
import type { Scope } from './rows.ts'
import type { Key } from './snapshot.ts'

/** What a call that carries a lease does with it. */
export interface LeaseHolder {
  /**
   * Adds a snapshot to the call's lease, if it has one. To be called before the snapshot is made, so that collection never
   * finds it unheld; a lease may hold what does not exist.
   * @throws {Fault} `not-found` when there is no such lease
   */
  hold(scope: Scope, key: Key, call: Leased): Promise<void>
  /** Takes a snapshot that is gone out of the call's lease. */
  letGo(scope: Scope, key: Key, call: Leased): Promise<void>
}

/** The part of a call that leases are about. */
export interface Leased {
  readonly lease: string | undefined
  readonly signal: AbortSignal
}

/** @param metadata the process that keeps the leases */
export function createLeaseHolder(metadata: Channel): LeaseHolder {
  const leases = clientOf(Leases, metadata)
  return {
    async hold(scope, key, { lease, signal }) {
      if (lease === undefined) return
      await leases.addResource(requestOf(lease, scope, key), { signal, namespace: scope.namespace })
    },
    async letGo(scope, key, { lease, signal }) {
      if (lease === undefined) return
      const request = leases.deleteResource(requestOf(lease, scope, key), { signal, namespace: scope.namespace })
      await ignoring('unavailable', ignoring('not-found', request)) // a lease may hold what does not exist
    },
  }
}

function requestOf(lease: string, scope: Scope, key: Key) {
  return { id: lease, resource: { id: key, type: `snapshots/${scope.snapshotter}` } }
}
