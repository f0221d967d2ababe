/** Use cases of leases, one transaction each. They publish no events. */
import { create } from '@bufbuild/protobuf'
import type { Timestamp } from '@bufbuild/protobuf/wkt'
import { type Lease, LeaseSchema, type Resource } from '@gantry/api/containerd/services/leases/v1/leases_pb'
import { Fault } from '@gantry/model/fault'
import { parseFilters } from '@gantry/model/filter'
import { type Labels, withoutEmpty } from '@gantry/model/labels'
import type { Namespace } from '@gantry/model/namespace'
import type { Changes } from '@gantry/service/changes'
import { claimNamespace, type Rows, removeUnder, valuesUnder } from '../rows.ts'
import { attach, detach } from './attach.ts'
import { leaseFields, parseResource, randomLeaseId } from './lease.ts'

export type Leases = ReturnType<typeof createLeases>

export interface LeasesParts {
  readonly rows: Rows
  readonly changes: Pick<Changes, 'write'>
  /** The time a lease is stamped with. */
  readonly now: () => Timestamp
  /** Hears that a lease does not hold something any more. */
  readonly deleted: () => void
}

export function createLeases({ rows, changes, now, deleted }: LeasesParts) {
  const check = (namespace: Namespace, id: string): void => {
    if (!rows.leases.has([namespace, id])) throw new Fault('not-found', `lease ${JSON.stringify(id)}: not found`)
  }
  return {
    /** @param id made up when empty. @throws {Fault} `already-exists` */
    async create(namespace: Namespace, id: string, labels: Labels): Promise<Lease> {
      const lease = create(LeaseSchema, { id: id || randomLeaseId(), labels: withoutEmpty(labels), createdAt: now() })
      return changes.write(() => {
        if (rows.leases.has([namespace, lease.id]))
          throw new Fault('already-exists', `lease ${JSON.stringify(lease.id)}: already exists`)
        claimNamespace(rows, namespace)
        rows.leases.put([namespace, lease.id], lease)
        return lease
      })
    },

    /** @throws {Fault} `not-found` */
    async delete(namespace: Namespace, id: string): Promise<void> {
      return changes.write(() => {
        check(namespace, id)
        rows.leases.remove([namespace, id])
        removeUnder(rows.leaseResources, [namespace, id])
        deleted()
      })
    },

    /** In order of ids. @throws {Fault} `invalid-argument` for a filter that does not parse */
    list(namespace: Namespace, filters: readonly string[]): Lease[] {
      const matches = parseFilters(filters)
      return valuesUnder(rows.leases, [namespace], (lease) => matches(leaseFields(lease)))
    },

    /** The resource need not exist; again is no error. @throws {Fault} `not-found`, and as `parseResource` */
    async add(namespace: Namespace, id: string, resource: Resource | undefined): Promise<void> {
      return changes.write(() => {
        check(namespace, id)
        attach(rows, namespace, id, parseResource(resource))
      })
    },

    /** What is not there goes as well. @throws {Fault} `not-found` for the lease, and as `parseResource` */
    async remove(namespace: Namespace, id: string, resource: Resource | undefined): Promise<void> {
      return changes.write(() => {
        check(namespace, id)
        detach(rows, namespace, id, parseResource(resource))
        deleted()
      })
    },

    /** Content first, then images, ingests and snapshots. @throws {Fault} `not-found` */
    resources(namespace: Namespace, id: string): Resource[] {
      check(namespace, id)
      return valuesUnder(rows.leaseResources, [namespace, id])
    },
  }
}
