import { createHash, type Hash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { type FileHandle, rm } from 'node:fs/promises'
import { type Digest, type DigestAlgorithm, parseDigest } from '@gantry/model/digest'
import { Fault } from '@gantry/model/fault'
import type { Courier } from '../registry/courier.ts'
import { type Folder, onDisk } from './folder.ts'
import { type Front, frontOf, openFront } from './front.ts'
import type { Follower, Hashers } from './hashers.ts'
import { createWriteback } from './writeback.ts'

const CHUNK = 1024 * 1024 // bytes read at once when hashing again
const INLINE = 256 * 1024 // bytes; what is smaller is hashed at once, what is larger by a thread
const STEP = 1024 * 1024 // bytes that a thread is told of together: waking it costs more than a message should

/** The bytes of one ingest with their running hash: whatever `offset` says is in the file, and `digest` is of all of it. */
export interface IngestFile extends AsyncDisposable {
  readonly handle: FileHandle
  /** Starts to bring what is there to disk. */
  flush(): void
  /** Waits for what is on its way to disk; the rest is left to a sync. @throws when something did not get there */
  settled(): Promise<void>
  offset(): bigint
  /** Digest of the bytes so far; reads them all again for an algorithm that is not sha256. */
  digest(algorithm?: DigestAlgorithm): Promise<Digest>
  /** @throws {Fault} `resource-exhausted` or `failed-precondition`; what is there then is as before */
  append(...data: readonly Uint8Array[]): Promise<void>
  /**
   * Writes to the file from another thread: until all of what was asked there is over, whatever it writes at the end
   * is told by `saved`, and nothing is appended.
   */
  courier(): Courier
  /** From then on the courier may also write behind the end, and leave a gap. @throws {Fault} as `append` */
  ahead(): Promise<void>
  /** So many bytes more came by the courier, without a gap. */
  saved(bytes: number): void
  truncate(): Promise<void>
}

export interface IngestFileParts {
  readonly folder: Folder
  readonly hashers: Hashers
}

/** Opens the file of an ingest; what an earlier writer left counts up to the first gap, and is hashed from the file. */
export async function openIngestFile(parts: IngestFileParts, id: string): Promise<IngestFile> {
  const handle = await parts.folder.openIngest(id)
  try {
    const all = (await handle.stat()).size
    const front = parts.folder.frontPath(id)
    const size = frontOf(front, all)
    if (size < all) await handle.truncate(size)
    await rm(front, { force: true })
    return createIngestFile({ ...parts, id, handle, size })
  } catch (error) {
    await handle.close()
    throw error
  }
}

interface Opened extends IngestFileParts {
  readonly id: string
  readonly handle: FileHandle
  readonly size: number
}

function createIngestFile({ folder, hashers, id, handle, ...opened }: Opened): IngestFile {
  let { size } = opened
  let front: Front | undefined
  const running = createRunningHash(hashers, handle.fd)
  running.grown(size)
  const writeback = createWriteback(handle)
  const write = async (data: readonly Uint8Array[], total: number): Promise<void> => {
    let done = (await handle.writev([...data], size)).bytesWritten
    if (done === total) return
    for (const all = Buffer.concat(data); done < total; ) {
      const { bytesWritten } = await handle.write(all, done, total - done, size + done)
      if (bytesWritten === 0) throw new Fault('data-loss', `wrote ${done} of ${total} bytes`)
      done += bytesWritten
    }
  }
  async function* saving<T>(pieces: AsyncIterable<T>): AsyncGenerator<T> {
    try {
      yield* pieces
    } catch (error) {
      await onDisk(folder.root, () => Promise.reject(error))
    }
  }
  return {
    handle,
    flush: writeback.flush,
    settled: writeback.settled,
    offset: () => BigInt(size),
    async digest(algorithm = 'sha256') {
      const hex = algorithm === 'sha256' ? await running.digest() : await hashFile(folder.ingestPath(id), algorithm)
      return parseDigest(`${algorithm}:${hex}`)
    },
    async append(...data) {
      const total = data.reduce((sum, { length }) => sum + length, 0)
      if (total === 0) return
      try {
        await onDisk(folder.root, () => write(data, total))
      } catch (error) {
        await handle.truncate(size).catch(() => undefined) // the caller acts on why the write failed
        throw error
      }
      size += total
      front?.at(size)
      running.grown(size, data)
      writeback.grown(size)
    },
    courier() {
      const courier = running.courier()
      return {
        async exchange(question, signal) {
          const { save, ...answer } = await courier.exchange(question, signal)
          return { ...answer, ...(save && { save: (part) => saving(save(part)) }) }
        },
      }
    },
    ahead: () =>
      onDisk(folder.root, async () => {
        front ??= openFront(folder.frontPath(id), size)
      }),
    saved(bytes) {
      size += bytes
      front?.at(size)
      running.saved(size)
      writeback.grown(size)
    },
    async truncate() {
      await running.reset()
      await onDisk(folder.root, () => handle.truncate(0))
      size = 0
      front?.at(size)
    },
    async [Symbol.asyncDispose]() {
      await running.reset()
      await writeback.settled().catch(() => undefined) // nobody wants these bytes on disk any more
      front?.[Symbol.dispose]()
      await handle.close()
    },
  }
}

interface RunningHash {
  /** There are `size` bytes now; the last of them are `data`, or else only in the file. */
  grown(size: number, data?: readonly Uint8Array[]): void
  digest(): Promise<string>
  courier(): Courier
  /** There are `size` bytes now, and the courier hashed the last ones, unless they were here before others. */
  saved(size: number): void
  /** Back to no bytes; nothing reads the file any more. */
  reset(): Promise<void>
}

/** Hashes at once what is small, and lets a thread follow the file when it is not. */
function createRunningHash(hashers: Hashers, fd: number): RunningHash {
  let inline: Hash = createHash('sha256')
  let follower: Follower | undefined
  let told = 0
  let now = 0
  const follow = (): Follower => {
    follower ??= hashers.follow(fd)
    return follower
  }
  return {
    grown(size, data) {
      now = size
      if (!follower && size <= INLINE && data) for (const part of data) inline.update(part)
      else if (size > 0) {
        follow().grown(size, size - told >= STEP ? 'now' : 'later')
        if (size - told >= STEP) told = size
      }
    },
    courier() {
      follow().grown(now, 'now') // what is there is hashed first
      return follow().courier
    },
    saved(size) {
      now = size
      told = size
      follow().grown(size, 'now') // there may be bytes that came before those before them
    },
    digest: async () => (follower ? await follower.digest() : inline.copy().digest('hex')),
    async reset() {
      const last = follower
      follower = undefined
      inline = createHash('sha256')
      told = 0
      now = 0
      await last?.[Symbol.asyncDispose]()
    },
  }
}

async function hashFile(path: string, algorithm: DigestAlgorithm): Promise<string> {
  const hash = createHash(algorithm)
  for await (const chunk of createReadStream(path, { highWaterMark: CHUNK })) hash.update(chunk)
  return hash.digest('hex')
}
