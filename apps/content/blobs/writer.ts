import { existsSync } from 'node:fs'
import { create } from '@bufbuild/protobuf'
import { ContentCreateSchema } from '@gantry/api/containerd/events/content_pb'
import { InfoSchema } from '@gantry/api/containerd/services/content/v1/content_pb'
import { toTimestamp } from '@gantry/model/clock'
import type { Digest } from '@gantry/model/digest'
import { Fault } from '@gantry/model/fault'
import { checkLabels, type Labels, withoutEmpty } from '@gantry/model/labels'
import type { Courier } from '../registry/courier.ts'
import { createIngestBytes } from './ingest-bytes.ts'
import type { IngestFile } from './ingest-file.ts'
import type { Opening, Parts } from './ingests.ts'
import { type Ingest, putBlob } from './rows.ts'

export interface WriterStatus {
  readonly offset: bigint
  readonly total: bigint
  readonly startedAtMs: number
  readonly updatedAtMs: number
}

/** What a commit promises; 0 and undefined promise nothing. */
export interface Promised {
  readonly total: bigint
  readonly expected: Digest | undefined
  readonly labels: Labels
}

/**
 * The one writer of an ingest:
 *
 *   shared (a blob that is there already) --append--> a private copy, then the new bytes
 *   shared ------------------------------truncate--> empty
 *   shared, or bytes of its own ------------commit--> the namespace has the blob; the ingest is gone
 *
 * Disposing lets go of the ref and keeps the bytes, so that the next writer goes on with them.
 */
export interface Writer extends AsyncDisposable {
  status(): WriterStatus
  /** The file that has the bytes so far. */
  path(): string
  /** Digest of the bytes so far. */
  digest(): Promise<Digest>
  append(...data: readonly Uint8Array[]): Promise<void>
  /** Receives what is missing straight into the file; undefined for a shared blob, of which nothing is. */
  courier(): Courier | undefined
  /** From then on the courier may leave a gap before what it brings: only what is before the first one counts. */
  ahead(): Promise<void>
  /** So many bytes more came by the courier, without a gap. */
  saved(bytes: number): Promise<void>
  /** Starts to bring what is there to disk; a commit waits for it. */
  flush(): void
  /** Back to no bytes at all. */
  truncate(): Promise<void>
  /**
   * Proves the bytes and gives the namespace the blob. On any failure the ingest stays as it is, but for the last one.
   *
   * @throws {Fault} `failed-precondition` when size or digest are not as promised, `invalid-argument` for bad labels,
   * `already-exists` when the namespace has the blob: its lease then holds it, and the ingest is gone
   */
  commit(promised: Promised, signal: AbortSignal): Promise<Digest>
  /** Lets go of the ref and drops the bytes. */
  discard(): Promise<void>
}

interface WriterParts extends Parts {
  readonly opening: Opening
  readonly ingest: Ingest
  readonly file: IngestFile | undefined
  readonly recorded: Promise<void>
  readonly release: () => void
}

export function createWriter({ opening, ingest, file, recorded, release, ...parts }: WriterParts): Writer {
  const { rows, folder, changes, hashers, leases, now } = parts
  const { namespace, ref } = opening
  const key = [namespace, ref]
  const isMine = (): boolean => rows.ingests.get(key)?.id === ingest.id
  const bytes = createIngestBytes({
    ...{ ingest, file, recorded, folder, hashers },
    record: (now) => changes.write(() => isMine() && rows.ingests.put(key, now)),
  })
  const { startedAtMs } = ingest
  let updatedAtMs = startedAtMs
  let open = true

  async function checkMine(): Promise<void> {
    await recorded
    if (!isMine()) throw new Fault('not-found', `ingest ${JSON.stringify(ref)}: it was aborted`)
  }

  async function dispose(): Promise<void> {
    if (!open) return
    open = false
    await recorded.catch(() => undefined) // there is none
    await bytes[Symbol.asyncDispose]()
    release()
  }

  /** The name goes first, then the bytes. */
  async function discard(): Promise<void> {
    await recorded.catch(() => undefined)
    if (isMine()) await changes.write(() => isMine() && rows.ingests.remove(key))
    await Promise.all([leases.remove(opening, { ingest: ref }), dispose(), folder.dropIngest(ingest.id)])
  }

  const { path, digest, courier, flush } = bytes
  return {
    ...{ path, digest, courier, flush },
    status: () => ({ offset: bytes.offset(), total: BigInt(ingest.total), startedAtMs, updatedAtMs }),
    async append(...data) {
      await checkMine()
      await bytes.append(...data)
      updatedAtMs = now()
    },
    ahead: () => checkMine().then(bytes.ahead),
    async saved(size) {
      await checkMine()
      bytes.saved(size)
      updatedAtMs = now()
    },
    async truncate() {
      await checkMine()
      await bytes.truncate()
      updatedAtMs = now()
    },
    async commit({ total, expected, labels }, signal) {
      checkLabels(labels)
      await checkMine()
      const digest = await bytes.prove({ total, expected })
      using _ = folder.claim(digest)
      await leases.add(opening, { content: digest }, signal)
      if (!rows.blobs.has([namespace, digest])) await bytes.adopt(digest)
      const isNew = await changes.write((emit) => {
        if (isMine()) rows.ingests.remove(key)
        if (rows.blobs.has([namespace, digest])) return false
        if (!existsSync(folder.blobPath(digest)))
          throw new Fault('failed-precondition', `Cannot commit ${digest}: the blob was removed meanwhile`)
        const [at, size] = [toTimestamp(now()), bytes.offset()]
        const info = { digest, size, labels: withoutEmpty(labels), createdAt: at, updatedAt: at }
        putBlob(rows, namespace, create(InfoSchema, info))
        emit(namespace, '/content/create', ContentCreateSchema, { digest, size })
        return true
      })
      await discard()
      if (!isNew) throw new Fault('already-exists', `content ${digest}: already exists`)
      return digest
    },
    discard,
    async [Symbol.asyncDispose]() {
      if (!open) return
      await dispose()
      if (!isMine()) await folder.dropIngest(ingest.id) // it was aborted
    },
  }
}
