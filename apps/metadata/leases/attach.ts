import { create } from '@bufbuild/protobuf'
import { ResourceSchema } from '@gantry/api/containerd/services/leases/v1/leases_pb'
import { Fault } from '@gantry/model/fault'
import type { Namespace } from '@gantry/model/namespace'
import type { Rows } from '../rows.ts'

/** A thing a lease protects; nothing says that it exists. */
export interface Held {
  readonly type: string
  readonly id: string
}

/**
 * Lets a lease hold a resource; only inside a write. Attaching twice is no error.
 *
 * @throws {Fault} `not-found` when there is no such lease
 */
export function attach(rows: Rows, namespace: Namespace, lease: string, { type, id }: Held): void {
  if (!rows.leases.has([namespace, lease])) throw new Fault('not-found', `lease ${JSON.stringify(lease)}: not found`)
  rows.leaseResources.put([namespace, lease, type, id], create(ResourceSchema, { type, id }))
}

/** Takes a resource from a lease; only inside a write. Neither of them has to exist. */
export function detach(rows: Rows, namespace: Namespace, lease: string, { type, id }: Held): void {
  rows.leaseResources.remove([namespace, lease, type, id])
}
