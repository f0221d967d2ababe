import type { MessageInitShape } from '@bufbuild/protobuf'
import { type InfoSchema, Kind } from '@gantry/api/containerd/services/snapshots/v1/snapshots_pb'
import { toTimestamp } from '@gantry/model/clock'
import { Fault } from '@gantry/model/fault'
import { type Adaptor, fieldsOf } from '@gantry/model/filter'
import type { Namespace } from '@gantry/model/namespace'
import type { Scope } from './rows.ts'
import type { Snapshot } from './snapshot.ts'

const KINDS = { active: Kind.ACTIVE, view: Kind.VIEW, committed: Kind.COMMITTED } as const satisfies Record<
  Snapshot['kind'],
  Kind
>

/** A snapshot as clients see it. */
export function toInfo({
  kind,
  key,
  parent,
  labels,
  createdAt,
  updatedAt,
}: Snapshot): MessageInitShape<typeof InfoSchema> {
  return {
    name: key,
    parent: parent ?? '',
    kind: KINDS[kind],
    createdAt: toTimestamp(createdAt),
    updatedAt: toTimestamp(updatedAt),
    labels: { ...labels },
  }
}

/** What the filters of List look at: `kind`, `name`, `parent`, `labels.<key>`. */
export function adaptorOf({ kind, key, parent, labels }: Snapshot): Adaptor {
  return fieldsOf({ kind, name: key, parent, labels })
}

/** Whose snapshots a call means. @throws {Fault} `invalid-argument` for a driver that is not here */
export type ParseScope = (namespace: Namespace, snapshotter: string) => Scope

/** @param drivers names of those that are here */
export function scopeParser(drivers: readonly string[]): ParseScope {
  return (namespace, snapshotter) => {
    if (drivers.includes(snapshotter)) return { namespace, snapshotter }
    const state =
      snapshotter === '' ? 'no snapshotter is named' : `snapshotter ${JSON.stringify(snapshotter)} is not loaded`
    throw new Fault('invalid-argument', `Cannot find the snapshots: ${state}`)
  }
}
