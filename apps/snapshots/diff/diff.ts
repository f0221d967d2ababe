import { closeSync } from 'node:fs'
import { Socket } from 'node:net'
import { pipeline, type Readable } from 'node:stream'
import { createGzip, createZstdCompress } from 'node:zlib'
import { openPipe } from '@gantry/linux/process'
import { type Descriptor, MEDIA } from '@gantry/model/descriptor'
import { Fault } from '@gantry/model/fault'
import type { Namespace } from '@gantry/model/namespace'
import type { Channel } from '@gantry/rpc/client'
import type { Mount } from '../drivers/driver.ts'
import type { Pool } from '../extract/pool.ts'
import type { Leased } from '../leases.ts'
import type { Packed } from './archive-writer.ts'
import { createBlobWriter } from './blob-writer.ts'
import type { Mounting } from './target.ts'
import { type OpenTrees, openTrees } from './trees.ts'

const PIECE_BYTES = 256 * 1024 // of one chunk that an encoder puts out
const CODECS = { [MEDIA.ociLayer]: 'none', [MEDIA.ociLayerGzip]: 'gzip', [MEDIA.ociLayerZstd]: 'zstd' } as const

/** What shall become a layer. */
export interface Difference {
  readonly namespace: Namespace
  /** What it lies on; nothing for a layer that stands alone. */
  readonly left: readonly Mount[]
  readonly right: readonly Mount[]
  /** Gzip when it is empty. */
  readonly mediaType: string
  /** Name of the upload; one of ours when it is empty. */
  readonly ref: string
  readonly labels: Readonly<Record<string, string>>
  /** Nanoseconds since 1970: later times become this one. */
  readonly latest: bigint | undefined
}

/**
 * Packs what makes one tree out of another, and stores it as a blob under the caller's lease.
 *
 * @throws {Fault} `unimplemented` for another media type, which makes containerd's client try another differ;
 *   `failed-precondition` when the mounts cannot be mounted, or a file's name would be a whiteout in a layer
 */
export type Diff = (what: Difference, call: Leased) => Promise<Pick<Descriptor, 'mediaType' | 'digest' | 'size'>>

export interface DiffParts extends Mounting {
  /** The process that keeps the blobs. */
  readonly content: Channel
  readonly pool: Pool
}

export function createDiff({ content, pool, ...mounting }: DiffParts): Diff {
  const write = createBlobWriter(content)
  return async ({ left, right, latest, ...what }, call) => {
    const mediaType = what.mediaType === '' ? MEDIA.ociLayerGzip : what.mediaType
    const codec = codecFor(mediaType)
    await using trees = await openTrees({ left, right }, { ...mounting, pool }, call.signal)
    using archive = startPacking(pool, { trees, latest, signal: call.signal })
    const isCompressed = codec !== 'none'
    const blob = { ...what, bytes: encoded(codec, archive.bytes), plain: archive.packed, isCompressed }
    return { mediaType, ...(await write(blob, call)) }
  }
}

interface PackingCall {
  readonly trees: OpenTrees
  readonly latest: bigint | undefined
  readonly signal: AbortSignal
}

/** Disposing closes the pipe, which ends a thread that still writes to it. */
interface PackingArchive extends Disposable {
  readonly bytes: Readable
  /** Rejects when it is not whole, although its bytes have ended. */
  readonly packed: Promise<Packed>
}

/** The thread writes to a pipe as fast as it is read, so nothing is collected in between. */
function startPacking(pool: Pool, { trees: { root, trees }, latest, signal }: PackingCall): PackingArchive {
  const pipe = openPipe()
  const bytes = new Socket({ fd: pipe.read, readable: true, writable: false })
  const output = `/proc/self/fd/${pipe.write}` // the thread has a descriptor of its own, whenever it ends
  const packed = pool.run({ kind: 'pack', root, trees, latest, output }, signal).finally(() => closeSync(pipe.write))
  packed.catch(() => {}) // heard by whoever reads to the end
  return { bytes, packed, [Symbol.dispose]: () => void bytes.destroy() }
}

function encoded(codec: 'gzip' | 'zstd' | 'none', bytes: Readable): AsyncIterable<Buffer> {
  if (codec === 'none') return bytes
  const encoder =
    codec === 'gzip' ? createGzip({ chunkSize: PIECE_BYTES }) : createZstdCompress({ chunkSize: PIECE_BYTES })
  return pipeline(bytes, encoder, () => {}) // a failure comes out of the iteration
}

function codecFor(mediaType: string): 'gzip' | 'zstd' | 'none' {
  for (const [known, codec] of Object.entries(CODECS)) if (known === mediaType) return codec
  throw new Fault('unimplemented', `unsupported diff media type: ${mediaType.slice(0, 200)}`)
}
