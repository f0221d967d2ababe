/**
 * What this process stores, and under which keys. One transaction may touch all of it.
 *
 *   namespaces       <namespace>                          Namespace: the labels; there as soon as anything was written to it
 *   images           <namespace> <name>                   Image
 *   containers       <namespace> <id>                     Container
 *   leases           <namespace> <lease>                  Lease
 *   lease-resources  <namespace> <lease> <type> <id>      Resource; types sort as they are listed: content, images, ingests, snapshots/...
 *   sandboxes        <namespace> <id>                       Sandbox
 *   identity         uuid                                 text
 */
import { create } from '@bufbuild/protobuf'
import { type Container, ContainerSchema } from '@gantry/api/containerd/services/containers/v1/containers_pb'
import { type Image, ImageSchema } from '@gantry/api/containerd/services/images/v1/images_pb'
import {
  type Lease,
  LeaseSchema,
  type Resource,
  ResourceSchema,
} from '@gantry/api/containerd/services/leases/v1/leases_pb'
import { NamespaceSchema, type Namespace as Tenant } from '@gantry/api/containerd/services/namespaces/v1/namespace_pb'
import { type Sandbox, SandboxSchema } from '@gantry/api/containerd/types/sandbox_pb'
import type { Namespace } from '@gantry/model/namespace'
import { bytesCodec, jsonCodec, messageCodec } from '@gantry/store/codec'
import type { Store } from '@gantry/store/store'
import type { Table } from '@gantry/store/table'

export interface Rows {
  readonly namespaces: Table<Tenant>
  readonly images: Table<Image>
  readonly containers: Table<Container>
  /** The same records as they are stored: a Container in bytes. Only to be read. */
  readonly containerBytes: Pick<Table<Uint8Array>, 'get' | 'list'>
  readonly leases: Table<Lease>
  readonly leaseResources: Table<Resource>
  readonly sandboxes: Table<Sandbox>
  readonly identity: Table<string>
}

/** The tables of this process in `store`. */
export function rowsOf(store: Store): Rows {
  return {
    namespaces: store.table('namespaces', messageCodec(NamespaceSchema)),
    images: store.table('images', messageCodec(ImageSchema)),
    containers: store.table('containers', messageCodec(ContainerSchema)),
    containerBytes: store.table('containers', bytesCodec),
    leases: store.table('leases', messageCodec(LeaseSchema)),
    leaseResources: store.table('lease-resources', messageCodec(ResourceSchema)),
    sandboxes: store.table('sandboxes', messageCodec(SandboxSchema)),
    identity: store.table('identity', jsonCodec<string>()),
  }
}

/** A namespace needs no creation of its own: every write of a thing in it calls this in the same transaction. */
export function claimNamespace(rows: Rows, namespace: Namespace): void {
  if (!rows.namespaces.has([namespace])) rows.namespaces.put([namespace], create(NamespaceSchema, { name: namespace }))
}

/** Every value whose key begins with `prefix`, in key order; of these only those that are wanted, without keeping the others. */
export function valuesUnder<V>(
  table: Pick<Table<V>, 'list'>,
  prefix: readonly string[],
  isWanted: (value: V) => boolean = () => true,
): V[] {
  const values: V[] = []
  for (const { value } of table.list({ prefix })) if (isWanted(value)) values.push(value)
  return values
}

/** Is there nothing whose key begins with `prefix`? */
export function isBare<V>(table: Table<V>, prefix: readonly string[]): boolean {
  for (const _ of table.list({ prefix, limit: 1 })) return false
  return true
}

/** Removes all whose key begins with `prefix`; only inside a write. */
export function removeUnder<V>(table: Table<V>, prefix: readonly string[]): void {
  for (const { key } of [...table.list({ prefix })]) table.remove(key)
}
