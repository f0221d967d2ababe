/**
 * What content records. The order of LMDB is the order of the API: digests and refs as text.
 *
 *   blobs    [namespace, digest] -> Info            who may see which blob, and its labels
 *   holders  [digest, namespace] -> nothing         the same pairs the other way round: who keeps a blob's bytes
 *   ingests  [namespace, ref]    -> Ingest (JSON)   an upload in progress; its bytes are in content/ingest/<id>/data
 *   condemned [digest]           -> nothing         rotten bytes on their way out (verify/quarantine.ts)
 */
import { type Info, InfoSchema } from '@gantry/api/containerd/services/content/v1/content_pb'
import type { Digest } from '@gantry/model/digest'
import type { Namespace } from '@gantry/model/namespace'
import { bytesCodec, jsonCodec, messageCodec } from '@gantry/store/codec'
import type { Store } from '@gantry/store/store'
import type { Table } from '@gantry/store/table'

export interface Ingest {
  /** Names the folder; a new one for every attempt, so that what is left of an old one is never taken for it. */
  readonly id: string
  /** Bytes the client announced, in decimal; `0` when it did not say. */
  readonly total: string
  readonly startedAtMs: number
  /** What it is to become, or has become: set before its bytes get that name. */
  readonly expected?: Digest
  /** Set while the ingest stands for a blob that is there already and no bytes of its own exist. */
  readonly shared?: Digest
  /** When nobody will miss it any more; absent when a lease decides. */
  readonly expiresAtMs?: number
}

export interface Rows {
  readonly blobs: Table<Info>
  readonly holders: Table<Uint8Array>
  readonly ingests: Table<Ingest>
  readonly condemned: Table<Uint8Array>
}

const NOTHING = new Uint8Array()

export function openRows(store: Store): Rows {
  return {
    blobs: store.table('blobs', messageCodec(InfoSchema)),
    holders: store.table('holders', bytesCodec),
    ingests: store.table('ingests', jsonCodec<Ingest>()),
    condemned: store.table('condemned', bytesCodec),
  }
}

/** Inside a write: gives a namespace a blob. */
export function putBlob(rows: Rows, namespace: Namespace, info: Info): void {
  rows.blobs.put([namespace, info.digest], info)
  rows.holders.put([info.digest, namespace], NOTHING)
}

/** Inside a write: takes a blob away from a namespace. */
export function removeBlob(rows: Rows, namespace: string, digest: Digest): void {
  rows.blobs.remove([namespace, digest])
  rows.holders.remove([digest, namespace])
}

/** The namespaces that have the blob. */
export function* holdersOf(rows: Rows, digest: Digest): Generator<string> {
  for (const { key } of rows.holders.list({ prefix: [digest] })) yield key[1] ?? ''
}
