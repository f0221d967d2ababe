import { createReadStream } from 'node:fs'
import { type Digest, digestParts } from '@gantry/model/digest'
import { Fault } from '@gantry/model/fault'
import type { Answer } from '../registry/answer.ts'
import type { Courier } from '../registry/courier.ts'
import { type IngestFile, type IngestFileParts, openIngestFile } from './ingest-file.ts'
import type { Ingest } from './rows.ts'

const CHUNK = 1024 * 1024

/** What a writer has so far: a blob that is there already, or a file of its own. Only the first writing call makes the file. */
export interface IngestBytes extends AsyncDisposable {
  offset(): bigint
  /** The file that has them. */
  path(): string
  digest(): Promise<Digest>
  /** A shared blob is copied first. */
  append(...data: readonly Uint8Array[]): Promise<void>
  /** Receives what is missing; undefined for a shared blob, of which nothing is. */
  courier(): Courier | undefined
  /** From then on the courier may leave a gap before what it brings. */
  ahead(): Promise<void>
  /** So many bytes more came by the courier, without a gap. */
  saved(bytes: number): void
  /** Starts to bring what is there to disk. */
  flush(): void
  truncate(): Promise<void>
  /** The digest, in the algorithm of `expected`. @throws {Fault} `failed-precondition` when size or digest are not as promised */
  prove(promised: { total: bigint; expected: Digest | undefined }): Promise<Digest>
  /** Makes the bytes, proven before, the blob `digest`. */
  adopt(digest: Digest): Promise<void>
}

interface BytesParts extends IngestFileParts {
  readonly ingest: Ingest
  readonly file: IngestFile | undefined
  /** Resolves when the ingest has its record. */
  readonly recorded: Promise<void>
  /** Records what the ingest is now, unless it was aborted. */
  readonly record: (ingest: Ingest) => Promise<unknown>
}

export function createIngestBytes({ ingest, file: opened, recorded, record, ...parts }: BytesParts): IngestBytes {
  const { folder } = parts
  let file = opened
  const { shared: _, ...own } = ingest // what it is with bytes of its own
  const offset = (): bigint => file?.offset() ?? BigInt(ingest.total)

  async function digestAs(like: Digest | undefined): Promise<Digest> {
    if (file) return await file.digest(like && digestParts(like).algorithm)
    if (ingest.shared) return ingest.shared
    throw new Error('An ingest has neither bytes nor a blob to share')
  }

  async function owned(source: Digest | undefined): Promise<IngestFile> {
    if (file) return file
    file = await openIngestFile(parts, ingest.id) // closed with the rest, whatever happens next
    await file.truncate()
    if (source)
      for await (const chunk of createReadStream(folder.blobPath(source), { highWaterMark: CHUNK }))
        await file.append(chunk)
    await record(own)
    return file
  }

  return {
    offset,
    path: () => (file || !ingest.shared ? folder.ingestPath(ingest.id) : folder.blobPath(ingest.shared)),
    digest: () => digestAs(undefined),
    append: async (...data) => await (await owned(ingest.shared)).append(...data),
    courier() {
      const courier = file?.courier()
      return courier && { exchange: (...what) => takenAfter(recorded, courier.exchange(...what)) }
    },
    ahead: async () => await file?.ahead(),
    saved: (bytes) => file?.saved(bytes),
    flush: () => file?.flush(),
    truncate: async () => await (await owned(undefined)).truncate(),
    async prove({ total, expected }) {
      if (total > 0n && total !== offset())
        throw new Fault('failed-precondition', `failed size validation: ${offset()} bytes came, not ${total}`)
      const actual = await digestAs(expected)
      if (expected !== undefined && expected !== actual)
        throw new Fault('failed-precondition', `unexpected commit digest ${actual}, expected ${expected}`)
      if (!file && (await folder.blobSize(actual)) !== offset())
        throw new Fault('failed-precondition', `Cannot commit ${actual}: the blob was removed meanwhile`)
      return actual
    },
    async adopt(digest) {
      if (!file) return
      await file.settled()
      if (ingest.expected !== digest) await record({ ...own, expected: digest }) // all that tells after a crash
      await folder.adopt(ingest.id, file.handle, digest)
    },
    [Symbol.asyncDispose]: async () => await file?.[Symbol.asyncDispose](),
  }
}

/** An answer whose bytes nobody takes before the upload has a record: a crash would leave them to nobody. */
async function takenAfter(recorded: Promise<void>, asked: Promise<Answer>): Promise<Answer> {
  const answer = await asked
  try {
    await recorded
    return answer
  } catch (error) {
    await answer[Symbol.asyncDispose]()
    throw error
  }
}
