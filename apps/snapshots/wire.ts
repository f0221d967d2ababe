import type { MessageInitShape } from '@bufbuild/protobuf'
import { type InfoSchema, Kind } from '@gantry/api/containerd/services/snapshots/v1/snapshots_pb'
import { toTimestamp } from '@gantry/model/clock'
import { Fault } from '@gantry/model/fault'
import { type Adaptor, fieldsOf } from '@gantry/model/filter'
import type { Labels } from '@gantry/model/labels'
import { parseNamespace } from '@gantry/model/namespace'
import type { CallContext } from '@gantry/rpc/context'
import type { Mount } from './drivers/driver.ts'
import type { Leased } from './leases.ts'
import type { Scope } from './rows.ts'
import type { Snapshot } from './snapshot.ts'

const KINDS = { active: Kind.ACTIVE, view: Kind.VIEW, committed: Kind.COMMITTED } as const satisfies Record<
  Snapshot['kind'],
  Kind
>

/** The other daemon decides what goes. */
const EXPORTED: Labels = { 'containerd.io/gc.root': 'exported' }

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

/** A mount that a client gives. @throws {Fault} `invalid-argument` for a NUL, where paths and options of the kernel end */
export function fromWire({ type, source, target = '', options }: Mount): Mount {
  if ([type, source, target, ...options].some((text) => text.includes('\0')))
    throw new Fault('invalid-argument', `Cannot use the mount of ${JSON.stringify(source)}: it holds a NUL`)
  return { type, source, target, options: [...options] }
}

/** What the filters of List look at: `kind`, `name`, `parent`, `labels.<key>`. */
export function adaptorOf({ kind, key, parent, labels }: Snapshot): Adaptor {
  return fieldsOf({ kind, name: key, parent, labels })
}

/** What a call is about, and how it is to be done. */
export interface Addressed {
  readonly scope: Scope
  readonly call: Leased
  /** Put on whatever the call makes. */
  readonly labels: Labels
}

/**
 * Whose snapshots a call means.
 * @throws {Fault} `invalid-argument` for a snapshotter that is not here, `failed-precondition` without a namespace
 */
export type Address = (context: CallContext, snapshotter: string) => Addressed

interface AddressParts {
  /** Names of those that are here. */
  readonly drivers: readonly string[]
  /** Names that stand for one of them, for another daemon that has us as its proxy plugin. */
  readonly exported: Readonly<Record<string, string>>
}

/**
 * Another daemon keeps its own namespaces and leases and tells them apart in its keys; it calls without namespace when it
 * collects. So all it has lies in one namespace of ours, which no lease of ours is about and no collection touches.
 */
export function addressOf({ drivers, exported }: AddressParts): Address {
  const foreign = new Map(Object.entries(exported))
  return (context, snapshotter) => {
    const driver = foreign.get(snapshotter)
    if (driver !== undefined && drivers.includes(driver)) {
      const scope = { namespace: parseNamespace(`exported.${snapshotter}`), snapshotter: driver }
      return { scope, call: { lease: undefined, signal: context.signal }, labels: EXPORTED }
    }
    if (drivers.includes(snapshotter))
      return { scope: { namespace: context.namespace, snapshotter }, call: context, labels: {} }
    throw new Fault('invalid-argument', `snapshotter not loaded: ${snapshotter}`)
  }
}

/** Does the call come from another daemon? */
export function isExported({ labels }: Addressed): boolean {
  return labels === EXPORTED
}
