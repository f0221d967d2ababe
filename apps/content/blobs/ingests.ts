import { randomUUID } from 'node:crypto'
import { stat } from 'node:fs/promises'
import type { Digest } from '@gantry/model/digest'
import { Fault } from '@gantry/model/fault'
import type { Namespace } from '@gantry/model/namespace'
import { abortable } from '@gantry/service/abortable'
import type { Changes } from '@gantry/service/changes'
import type { Holder, Leases } from '../leases.ts'
import type { Folder } from './folder.ts'
import { frontOf } from './front.ts'
import type { Hashers } from './hashers.ts'
import { type IngestFile, openIngestFile } from './ingest-file.ts'
import type { Ingest, Rows } from './rows.ts'
import { createWriter, type Writer } from './writer.ts'

const UNLEASED_MS = 24 * 3600 * 1000 // how long an upload nobody leases is kept

/** What the parts of this folder share. */
export interface Parts {
  readonly rows: Rows
  readonly folder: Folder
  readonly hashers: Hashers
  readonly changes: Pick<Changes, 'write'>
  readonly leases: Leases
  /** May a namespace take a blob that another one brought, without showing that it has the bytes? */
  readonly mayShare: (digest: Digest, isolated: boolean, signal: AbortSignal) => Promise<boolean>
  readonly now: () => number
}

/** How a writer is opened. */
export interface Opening extends Holder {
  readonly ref: string
  readonly expected: Digest | undefined
  /** Bytes to come, 0 when not known. */
  readonly total: bigint
  /** Does not wait for the record of the upload: bytes may be asked for meanwhile, and none is taken before. */
  readonly ahead?: boolean
}

export interface IngestStatus {
  readonly ref: string
  readonly offset: bigint
  readonly total: bigint
  readonly startedAtMs: number
  readonly updatedAtMs: number
}

/** Uploads in progress: one writer a ref at a time. */
export interface Ingests {
  /**
   * The only writer of a ref, going on where the last one stopped.
   *
   * @throws {Fault} `already-exists` when the namespace has the expected blob (its lease then holds it), `unavailable`
   * while another writer has the ref, `not-found` when the lease is gone
   * @see behaviour facts, 5.3
   */
  open(opening: Opening, signal: AbortSignal): Promise<Writer>
  isBusy(namespace: Namespace, ref: string): boolean
  /** Gets ready for large blobs: call it while it is not known yet which. */
  prepare(): void
  /** Resolves when the writer that has the ref now lets go of it; at once when there is none. */
  released(namespace: Namespace, ref: string, signal: AbortSignal): Promise<void>
  /** @throws {Fault} `not-found` */
  status(namespace: Namespace, ref: string): Promise<IngestStatus>
  list(namespace: Namespace): AsyncIterable<IngestStatus>
  /** Removes name and bytes; a writer that is at it fails at its next step. @throws {Fault} `not-found` */
  abort(holder: Holder, ref: string): Promise<void>
  /** The folders that are in use, of all namespaces. */
  ids(): Set<string>
}

/** A ref that somebody writes to. */
interface Lock {
  readonly freed: Promise<void>
  readonly free: () => void
  writer?: Writer
}

export function createIngests(parts: Parts): Ingests {
  const { rows, folder, changes, leases } = parts
  const locks = new Map<string, Lock>()

  async function open(opening: Opening, signal: AbortSignal): Promise<Writer> {
    const { namespace, ref, expected } = opening
    if (expected !== undefined && rows.blobs.has([namespace, expected])) {
      await leases.add(opening, { content: expected }, signal)
      if (rows.blobs.has([namespace, expected]))
        // it may have been collected just before
        throw new Fault('already-exists', `content ${expected}: already exists`)
    }
    const lock = claim(locks, [namespace, ref])
    try {
      await leases.add(opening, { ingest: ref }, signal)
      const ingest = await begin(parts, opening, signal)
      lock.writer = createWriter({ ...parts, opening, ...ingest, release: lock.free })
      return lock.writer
    } catch (error) {
      lock.free()
      throw error
    }
  }

  async function statusOf(ref: string, namespace: Namespace, ingest: Ingest): Promise<IngestStatus | undefined> {
    const live = locks.get(keyOf([namespace, ref]))?.writer
    if (live) return { ref, ...live.status() }
    const { startedAtMs } = ingest
    const total = BigInt(ingest.total)
    if (ingest.shared) return { ref, offset: total, total, startedAtMs, updatedAtMs: startedAtMs }
    const file = await stat(folder.ingestPath(ingest.id)).catch(() => undefined)
    if (!file) return undefined
    const offset = BigInt(frontOf(folder.frontPath(ingest.id), file.size))
    return { ref, offset, total, startedAtMs, updatedAtMs: Math.trunc(file.mtimeMs) }
  }

  return {
    open,
    prepare: () => parts.hashers.prepare(),
    isBusy: (namespace, ref) => locks.has(keyOf([namespace, ref])),
    async released(namespace, ref, signal) {
      const lock = locks.get(keyOf([namespace, ref]))
      if (lock) await abortable(lock.freed, signal)
    },
    async status(namespace, ref) {
      const ingest = rows.ingests.get([namespace, ref])
      const status = ingest && (await statusOf(ref, namespace, ingest))
      if (!status) throw unknownRef(ref)
      return status
    },
    async *list(namespace) {
      for (const { key, value } of rows.ingests.list({ prefix: [namespace] })) {
        const status = await statusOf(key[1] ?? '', namespace, value)
        if (status) yield status
      }
    },
    async abort(holder, ref) {
      const key = [holder.namespace, ref]
      const ingest = await changes.write(() => {
        const found = rows.ingests.get(key)
        rows.ingests.remove(key)
        return found
      })
      if (!ingest) throw unknownRef(ref)
      await leases.remove(holder, { ingest: ref })
      await folder.dropIngest(ingest.id)
    },
    ids: () => new Set(Array.from(rows.ingests.list(), ({ value }) => value.id)),
  }
}

/** What a writer starts from: its record, and its bytes unless it stands for a blob that is there already. */
interface Begun {
  readonly ingest: Ingest
  readonly file: IngestFile | undefined
  /** Resolves when the record is on disk; when it does not get there, the bytes are as they were before. */
  readonly recorded: Promise<void>
}

/** Makes or finds the record and the bytes of an ingest: the bytes first, the record last. */
async function begin(parts: Parts, opening: Opening, signal: AbortSignal): Promise<Begun> {
  const { rows, folder, changes, now } = parts
  const key = [opening.namespace, opening.ref]
  const found = rows.ingests.get(key)
  using _ = opening.expected && folder.claim(opening.expected)
  const shared = await sharedSize(parts, opening, { found, signal })
  const restart =
    found !== undefined && opening.total > 0n && found.total !== '0' && BigInt(found.total) !== opening.total
  const total = shared ?? (opening.total > 0n ? opening.total : BigInt(found?.total ?? 0))
  const ingest: Ingest = {
    id: found?.id ?? randomUUID(),
    total: String(total),
    startedAtMs: found && !restart ? found.startedAtMs : now(),
    ...(opening.expected && { expected: opening.expected }),
    ...(shared !== undefined && opening.expected ? { shared: opening.expected } : {}),
    ...(opening.lease === undefined ? { expiresAtMs: now() + UNLEASED_MS } : {}),
  }
  const file = shared === undefined ? await openIngestFile(parts, ingest.id) : undefined
  let isNamed = found !== undefined // by a record that stays whatever happens here
  const record = async (): Promise<void> => {
    try {
      if (restart) await file?.truncate()
      await changes.write(() => {
        isNamed &&= rows.ingests.get(key)?.id === ingest.id
        if (found && !isNamed) throw new Fault('unavailable', `ref ${opening.ref} is locked: it was aborted just now`)
        rows.ingests.put(key, ingest)
      })
    } catch (error) {
      await file?.[Symbol.asyncDispose]()
      if (!isNamed) await folder.dropIngest(ingest.id)
      throw error
    }
  }
  const recorded = record()
  recorded.catch(() => undefined) // whoever awaits it hears of it
  if (!opening.ahead || restart || !file) await recorded
  return { ingest, file, recorded }
}

/** Size of the expected blob when this namespace may have it for the asking, undefined when it has to bring the bytes. */
async function sharedSize(
  parts: Parts,
  opening: Opening,
  { found, signal }: { found: Ingest | undefined; signal: AbortSignal },
): Promise<bigint | undefined> {
  if (opening.expected === undefined) return undefined
  const size = await parts.folder.blobSize(opening.expected)
  if (size === undefined || (opening.total > 0n && opening.total !== size)) return undefined
  // this very upload was proven and became the blob, and then the process ended before it was recorded
  if (found && (await hasBecome(opening.expected, found, parts.folder))) return size
  return (await parts.mayShare(opening.expected, opening.isolated === true, signal)) ? size : undefined
}

/** Did the bytes of the upload become this blob? Then there are none of its own any more. */
export async function hasBecome(digest: Digest, { id, expected, shared }: Ingest, folder: Folder): Promise<boolean> {
  return expected === digest && !shared && !(await folder.hasIngest(id))
}

function claim(locks: Map<string, Lock>, key: readonly [string, string]): Lock {
  const name = keyOf(key)
  if (locks.has(name)) throw new Fault('unavailable', `ref ${key[1]} is locked: another writer is at it`)
  const { promise, resolve } = Promise.withResolvers<void>()
  const free = (): void => {
    if (locks.get(name) === lock) locks.delete(name)
    resolve()
  }
  const lock: Lock = { freed: promise, free }
  locks.set(name, lock)
  return lock
}

function unknownRef(ref: string): Fault {
  return new Fault('not-found', `ingest ${JSON.stringify(ref)}: not found`)
}

function keyOf([namespace, ref]: readonly [string, string]): string {
  return `${namespace}/${ref}`
}
