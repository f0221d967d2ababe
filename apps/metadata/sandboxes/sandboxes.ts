/** Use cases of sandbox records, one transaction each. Events of sandboxes are told by who runs them. */
import type { Timestamp } from '@bufbuild/protobuf/wkt'
import type { Sandbox } from '@gantry/api/containerd/types/sandbox_pb'
import { Fault } from '@gantry/model/fault'
import { parseFilters } from '@gantry/model/filter'
import type { Namespace } from '@gantry/model/namespace'
import type { Changes } from '@gantry/service/changes'
import { claimNamespace, type Rows, valuesUnder } from '../rows.ts'
import { newSandbox, sandboxFields, updatedSandbox } from './sandbox.ts'

export type Sandboxes = ReturnType<typeof createSandboxes>

/** @param parts.now the time a record is stamped with */
export function createSandboxes({
  rows,
  changes,
  now,
}: {
  rows: Rows
  changes: Pick<Changes, 'write'>
  now: () => Timestamp
}) {
  return {
    /** @throws {Fault} `not-found` */
    get(namespace: Namespace, id: string): Sandbox {
      return rows.sandboxes.get([namespace, id]) ?? missing(id)
    },

    /** In order of ids. @throws {Fault} `invalid-argument` for a filter that does not parse */
    list(namespace: Namespace, filters: readonly string[]): Sandbox[] {
      const matches = parseFilters(filters)
      return valuesUnder(rows.sandboxes, [namespace], (sandbox) => matches(sandboxFields(sandbox)))
    },

    /** @throws {Fault} `already-exists`, `invalid-argument` */
    async create(namespace: Namespace, wanted: Sandbox): Promise<Sandbox> {
      const sandbox = newSandbox(wanted, now())
      const id = sandbox.sandboxId
      return changes.write(() => {
        if (rows.sandboxes.has([namespace, id]))
          throw new Fault('already-exists', `sandbox ${JSON.stringify(id)}: already exists`)
        claimNamespace(rows, namespace)
        rows.sandboxes.put([namespace, id], sandbox)
        return sandbox
      })
    },

    /** @throws {Fault} `not-found`, `invalid-argument` */
    async update(namespace: Namespace, next: Sandbox, mask: readonly string[]): Promise<Sandbox> {
      const id = next.sandboxId
      return changes.write(() => {
        const sandbox = updatedSandbox(rows.sandboxes.get([namespace, id]) ?? missing(id), next, mask, now())
        rows.sandboxes.put([namespace, id], sandbox)
        return sandbox
      })
    },

    /** @throws {Fault} `not-found` */
    async delete(namespace: Namespace, id: string): Promise<void> {
      return changes.write(() => {
        if (!rows.sandboxes.has([namespace, id])) missing(id)
        rows.sandboxes.remove([namespace, id])
      })
    },
  }
}

function missing(id: string): never {
  throw new Fault('not-found', `sandbox ${JSON.stringify(id)}: not found`)
}
