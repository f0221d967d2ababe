/** Use cases of namespaces. One exists when its record does, or when another owner holds something in it. */
import { create } from '@bufbuild/protobuf'
import {
  NamespaceCreateSchema,
  NamespaceDeleteSchema,
  NamespaceUpdateSchema,
} from '@gantry/api/containerd/events/namespace_pb'
import { NamespaceSchema, type Namespace as Tenant } from '@gantry/api/containerd/services/namespaces/v1/namespace_pb'
import type { Holding } from '@gantry/api/gantry/owner/v1/owner_pb'
import { Fault } from '@gantry/model/fault'
import { checkLabels, type Labels, withoutEmpty } from '@gantry/model/labels'
import { parseMask, updateMap } from '@gantry/model/mask'
import type { Namespace } from '@gantry/model/namespace'
import type { Changes } from '@gantry/service/changes'
import type { Owners } from '../owners.ts'
import { isBare, type Rows, removeUnder, valuesUnder } from '../rows.ts'

export type Namespaces = ReturnType<typeof createNamespaces>

const ACCEPTED = { plain: [], maps: ['labels'] }

export function createNamespaces({
  rows,
  changes,
  owners,
}: {
  rows: Rows
  changes: Pick<Changes, 'write'>
  owners: Owners
}) {
  return {
    /** One that nobody made has no labels; it is not an error. */
    get(name: string): Tenant {
      return rows.namespaces.get([name]) ?? tenant(name)
    },

    /** All that exist, in order of names. Those that only an owner knows which is down are missing. */
    async list(signal: AbortSignal): Promise<Tenant[]> {
      const held = (await owners.reachable(signal)).map(({ namespace }) => tenant(namespace))
      const known = valuesUnder(rows.namespaces, [])
      const byName = new Map([...held, ...known].map((each) => [each.name, each]))
      return [...byName.keys()].sort().flatMap((name) => byName.get(name) ?? [])
    },

    /** @throws {Fault} `already-exists`, also when it came into being by itself; `invalid-argument` */
    async create(name: Namespace, labels: Labels, signal: AbortSignal): Promise<Tenant> {
      checkLabels(labels)
      const exists = () => new Fault('already-exists', `namespace "${name}": already exists`)
      if (rows.namespaces.has([name])) throw exists()
      if ((await owners.reachable(signal)).some(({ namespace }) => namespace === name)) throw exists()
      return changes.write((emit) => {
        if (rows.namespaces.has([name])) throw exists()
        const created = tenant(name, withoutEmpty(labels))
        rows.namespaces.put([name], created)
        emit(name, '/namespaces/create', NamespaceCreateSchema, { name, labels: created.labels })
        return created
      })
    },

    /**
     * Sets the labels named by `mask`, as `labels.<key>`, or replaces all when it is empty. Makes the record if there is none.
     *
     * @throws {Fault} `invalid-argument` for any other path, or labels that are too large
     */
    async update(name: Namespace, next: Labels, mask: readonly string[]): Promise<void> {
      const paths = mask.length === 0 ? [{ field: 'labels' }] : parseMask(mask, ACCEPTED)
      return changes.write((emit) => {
        const current: Labels = rows.namespaces.get([name])?.labels ?? {}
        const labels = paths.reduce((all, path) => updateMap(all, next, path), current)
        checkLabels(labels)
        rows.namespaces.put([name], tenant(name, withoutEmpty(labels)))
        emit(name, '/namespaces/update', NamespaceUpdateSchema, { name, labels: next })
      })
    },

    /**
     * Removes an empty namespace with its labels, leases and sandbox records; neither these nor ingests keep it.
     *
     * @throws {Fault} `not-found`; `failed-precondition` when it holds images, containers, blobs or snapshots;
     *   `unavailable` when an owner cannot be asked
     */
    async delete(name: string, signal: AbortSignal): Promise<void> {
      const held = (await owners.all(signal)).filter(({ namespace }) => namespace === name)
      await changes.write((emit) => {
        const left = contentsOf(name, rows, held)
        if (left.length > 0)
          throw new Fault(
            'failed-precondition',
            `namespace "${name}" must be empty, but it still has ${left.join(', ')}`,
          )
        if (!rows.namespaces.has([name])) throw new Fault('not-found', `namespace ${JSON.stringify(name)}: not found`)
        for (const table of [rows.leases, rows.leaseResources, rows.sandboxes]) removeUnder<unknown>(table, [name])
        rows.namespaces.remove([name])
        emit(name, '/namespaces/delete', NamespaceDeleteSchema, { name })
      })
    },
  }
}

function tenant(name: string, labels: Record<string, string> = {}): Tenant {
  return create(NamespaceSchema, { name, labels })
}

/** What keeps it, in containerd's words and order. */
function contentsOf(name: string, { images, containers }: Rows, held: readonly Holding[]): string[] {
  const snapshotters = held.flatMap(({ snapshotters }) => snapshotters)
  return [
    ...(isBare(images, [name]) ? [] : ['images']),
    ...(held.some(({ hasBlobs }) => hasBlobs) ? ['blobs'] : []),
    ...(isBare(containers, [name]) ? [] : ['containers']),
    ...snapshotters.map((snapshotter) => `snapshots on "${snapshotter}" snapshotter`),
  ]
}
