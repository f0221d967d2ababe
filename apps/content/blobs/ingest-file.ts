import { createHash, type Hash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { type Digest, type DigestAlgorithm, parseDigest } from '@gantry/model/digest'
import { Fault } from '@gantry/model/fault'
import { type Folder, onDisk } from './folder.ts'

const CHUNK = 1024 * 1024 // bytes read at once when hashing again

/** The bytes of one ingest with their running hash: whatever `offset` says is in the file and in the hash. */
export interface IngestFile extends AsyncDisposable {
  readonly handle: FileHandle
  offset(): bigint
  /** Digest of the bytes so far; reads them all again for an algorithm that is not sha256. */
  digest(algorithm?: DigestAlgorithm): Promise<Digest>
  /** @throws {Fault} `resource-exhausted` or `failed-precondition`; what is there then is as before */
  append(data: Uint8Array): Promise<void>
  truncate(): Promise<void>
}

/** Opens the file of an ingest and hashes what an earlier writer left. */
export async function openIngestFile(folder: Folder, id: string, signal: AbortSignal): Promise<IngestFile> {
  const handle = await folder.openIngest(id)
  try {
    const { size } = await handle.stat()
    const hash = size > 0 ? await hashFile(folder.ingestPath(id), 'sha256', signal) : createHash('sha256')
    return createIngestFile({ folder, id, handle, hash, size })
  } catch (error) {
    await handle.close()
    throw error
  }
}

interface Opened {
  readonly folder: Folder
  readonly id: string
  readonly handle: FileHandle
  readonly hash: Hash
  readonly size: number
}

function createIngestFile({ folder, id, handle, ...opened }: Opened): IngestFile {
  let { hash, size } = opened
  const write = async (data: Uint8Array): Promise<void> => {
    for (let done = 0; done < data.length; ) {
      const { bytesWritten } = await handle.write(data, done, data.length - done, size + done)
      if (bytesWritten === 0) throw new Fault('data-loss', `wrote ${done} of ${data.length} bytes`)
      done += bytesWritten
    }
  }
  return {
    handle,
    offset: () => BigInt(size),
    async digest(algorithm = 'sha256') {
      const full = algorithm === 'sha256' ? hash.copy() : await hashFile(folder.ingestPath(id), algorithm, never)
      return parseDigest(`${algorithm}:${full.digest('hex')}`)
    },
    async append(data) {
      try {
        await onDisk(folder.root, () => write(data))
      } catch (error) {
        await handle.truncate(size).catch(() => undefined) // the caller acts on why the write failed
        throw error
      }
      hash.update(data)
      size += data.length
    },
    async truncate() {
      await onDisk(folder.root, () => handle.truncate(0))
      hash = createHash('sha256')
      size = 0
    },
    [Symbol.asyncDispose]: () => handle.close(),
  }
}

const never = new AbortController().signal

async function hashFile(path: string, algorithm: DigestAlgorithm, signal: AbortSignal): Promise<Hash> {
  const hash = createHash(algorithm)
  for await (const chunk of createReadStream(path, { highWaterMark: CHUNK, signal })) hash.update(chunk)
  return hash
}
