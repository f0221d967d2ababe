import { randomUUID } from 'node:crypto'
import type { Digest } from '@gantry/model/digest'
import { isFault } from '@gantry/model/fault'
import type { Labels } from '@gantry/model/labels'
import type { Ingests } from '../blobs/ingests.ts'
import type { Writer } from '../blobs/writer.ts'
import type { Holder } from '../leases.ts'

const BATCH = 512 * 1024 // bytes written at once

/** What is known of bytes before they come. */
export interface Incoming {
  readonly expected?: Digest
  /** 0 when not known. */
  readonly size: bigint
  readonly labels?: Labels
}

/** Where bytes become blobs, and whose. */
export interface Store {
  readonly holder: Holder
  readonly ingests: Ingests
  readonly signal: AbortSignal
}

/**
 * Makes a blob of bytes as they come. The lease holds it. When it fails no ingest stays.
 *
 * @throws {Fault} `failed-precondition` when the bytes are not what was expected
 */
export async function storeBlob(incoming: Incoming, body: AsyncIterable<Uint8Array>, store: Store): Promise<Digest> {
  const { expected, size: total } = incoming
  const opening = { ...store.holder, ref: `import-${randomUUID()}`, expected, total }
  let writer: Writer
  try {
    writer = await store.ingests.open(opening, store.signal)
  } catch (error) {
    if (expected === undefined || !isFault(error, 'already-exists')) throw error
    await skip(body)
    return expected
  }
  return await fill(writer, incoming, body, store)
}

async function fill(writer: Writer, incoming: Incoming, body: AsyncIterable<Uint8Array>, store: Store) {
  const { expected, size: total, labels = {} } = incoming
  const shared = expected !== undefined && writer.status().offset > 0n // another namespace has it
  let digest: Digest | undefined = expected
  try {
    if (shared) await skip(body)
    else for await (const batch of batched(body, total)) await writer.append(batch)
    digest ??= await writer.digest()
    return await writer.commit({ total, expected, labels }, store.signal)
  } catch (error) {
    if (digest !== undefined && isFault(error, 'already-exists')) return digest
    await writer.discard()
    throw error
  }
}

async function skip(body: AsyncIterable<Uint8Array>): Promise<void> {
  for await (const _ of body);
}

/** All in one buffer, which is used again: a batch is good until the next one is asked for. @param total 0 when not known */
async function* batched(chunks: AsyncIterable<Uint8Array>, total: bigint): AsyncGenerator<Uint8Array> {
  const batch = Buffer.allocUnsafeSlow(total > 0n && total < BATCH ? Number(total) : BATCH)
  let size = 0
  for await (const chunk of chunks)
    for (let at = 0; at < chunk.length; ) {
      const part = chunk.subarray(at, at + batch.length - size)
      batch.set(part, size)
      at += part.length
      size += part.length
      if (size < batch.length) continue
      yield batch
      size = 0
    }
  if (size > 0) yield batch.subarray(0, size)
}
