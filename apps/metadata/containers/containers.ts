/** Use cases of container records, one transaction each; the event goes with it. */
import type { Timestamp } from '@bufbuild/protobuf/wkt'
import {
  ContainerCreateSchema,
  ContainerDeleteSchema,
  ContainerUpdateSchema,
} from '@gantry/api/containerd/events/container_pb'
import type { Container } from '@gantry/api/containerd/services/containers/v1/containers_pb'
import { Fault } from '@gantry/model/fault'
import { parseFilters } from '@gantry/model/filter'
import type { Namespace } from '@gantry/model/namespace'
import type { Changes } from '@gantry/service/changes'
import { claimNamespace, type Rows, valuesUnder } from '../rows.ts'
import { containerFields, newContainer, updatedContainer } from './container.ts'

export type Containers = ReturnType<typeof createContainers>

/** @param parts.now the time a record is stamped with */
export function createContainers({
  rows,
  changes,
  now,
}: {
  rows: Rows
  changes: Pick<Changes, 'write'>
  now: () => Timestamp
}) {
  return {
    /** In the bytes of its message. @throws {Fault} `not-found` */
    getBytes(namespace: Namespace, id: string): Uint8Array {
      return rows.containerBytes.get([namespace, id]) ?? missing(namespace, id)
    },

    /** In order of ids, as they were when asked. @throws {Fault} `invalid-argument` for a filter that does not parse */
    list(namespace: Namespace, filters: readonly string[]): Container[] {
      const matches = parseFilters(filters)
      return valuesUnder(rows.containers, [namespace], (container) => matches(containerFields(container)))
    },

    /** All of them in that order, each in the bytes of its message. */
    listBytes: (namespace: Namespace): Uint8Array[] => valuesUnder(rows.containerBytes, [namespace]),

    /** @throws {Fault} `already-exists`, `invalid-argument` */
    async create(namespace: Namespace, wanted: Container): Promise<Container> {
      const container = newContainer(wanted, now())
      const { id, image, runtime } = container
      return changes.write((emit) => {
        if (rows.containers.has([namespace, id]))
          throw new Fault('already-exists', `container ${JSON.stringify(id)}: already exists`)
        claimNamespace(rows, namespace)
        rows.containers.put([namespace, id], container)
        const { name = '', options } = runtime ?? {}
        emit(namespace, '/containers/create', ContainerCreateSchema, {
          id,
          image,
          runtime: { name, ...(options && { options }) },
        })
        return container
      })
    },

    /** @throws {Fault} `not-found`, `invalid-argument` */
    async update(namespace: Namespace, next: Container, mask: readonly string[]): Promise<Container> {
      const { id } = next
      if (id === '') throw new Fault('invalid-argument', 'Cannot update a container: its id is empty')
      return changes.write((emit) => {
        const current = rows.containers.get([namespace, id]) ?? missing(namespace, id)
        const container = updatedContainer(current, next, mask, now())
        const { image, labels, snapshotKey } = container
        rows.containers.put([namespace, id], container)
        emit(namespace, '/containers/update', ContainerUpdateSchema, { id, image, labels, snapshotKey })
        return container
      })
    },

    /** Does not look for a running task. @throws {Fault} `not-found` */
    async delete(namespace: Namespace, id: string): Promise<void> {
      return changes.write((emit) => {
        if (!rows.containers.has([namespace, id])) missing(namespace, id)
        rows.containers.remove([namespace, id])
        emit(namespace, '/containers/delete', ContainerDeleteSchema, { id })
      })
    },
  }
}

function missing(namespace: Namespace, id: string): never {
  throw new Fault('not-found', `container ${JSON.stringify(id)} in namespace "${namespace}": not found`)
}
