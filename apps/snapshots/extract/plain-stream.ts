import { readSync } from 'node:fs'
import type { Transform } from 'node:stream'
import { constants, createGunzip, createZstdDecompress } from 'node:zlib'
import type { Gunzip } from '@gantry/linux/gunzip'
import { isSystemError } from '@gantry/linux/system'
import { type Codec, codecOf } from '@gantry/model/codec'
import { Fault } from '@gantry/model/fault'
import { createFrameFilter } from '@gantry/model/zstd-frames'
import type { Limits } from './limits.ts'
import { type Mark, readable } from './mark.ts'

const READ_BYTES = 256 * 1024
const PLAIN_BYTES = 256 * 1024 // of one chunk that a decoder puts out
const MAGIC_BYTES = 4
const MAX_WINDOW_LOG = 27 // 128 MiB, what zstd itself accepts unless told: more is memory the archive takes from us

/** A blob to read. The descriptor stays open. */
interface Source {
  readonly fd: number
  /** How much of it is there, when it is still being written: the thread waits for more. */
  readonly arriving: Mark | undefined
  /** Hears when the thread has waited for a while, and when it does not any more. */
  readonly rest: (waits: boolean) => void
}

/** How to read it. */
export interface Reading {
  /** Follow the magic bytes; otherwise the blob is taken as it is. */
  readonly detect: boolean
  readonly limits: Limits
  /** The host's fast decoder; without it zlib decodes in the background. */
  readonly openGunzip: (() => Gunzip) | undefined
}

/**
 * The plain bytes of a blob. A chunk is good until the next one is asked for.
 *
 * @throws {Fault} `invalid-argument` for a stream that is cut off or corrupt, `resource-exhausted` beyond the limits
 */
export async function* plainStream(blob: Source, { detect, limits, openGunzip }: Reading): AsyncGenerator<Buffer> {
  let read = 0
  let written = 0
  const source = async function* (buffer: Buffer) {
    for await (const chunk of chunksOf(blob, buffer)) {
      read += chunk.length
      yield chunk
    }
  }
  const codec = detect ? codecOf(await startOf(blob)) : 'none'
  for await (const chunk of plainOf(source, codec, openGunzip)) {
    written += chunk.length
    if (written > limits.plainBytes)
      throw new Fault(
        'resource-exhausted',
        `Cannot extract the layer: it has more than ${limits.plainBytes} plain bytes`,
      )
    if (written > limits.ratioFromBytes && written > read * limits.ratio)
      throw new Fault(
        'resource-exhausted',
        `Cannot extract the layer: it unpacks to over ${limits.ratio} times its size`,
      )
    yield chunk
  }
}

/** Reads into a buffer piece by piece. */
type Read = (buffer: Buffer) => AsyncIterable<Buffer>

async function* plainOf(read: Read, codec: Codec, openGunzip: Reading['openGunzip']): AsyncGenerator<Buffer> {
  if (codec === 'gzip' && openGunzip) {
    using gunzip = openGunzip()
    yield* gunzipped(gunzip, read(gunzip.input))
    return
  }
  const source = read(Buffer.allocUnsafeSlow(READ_BYTES))
  yield* codec === 'none' ? source : decoded(codec, source)
}

/** In this very thread: nothing is handed over, and the same memory serves for all. */
async function* gunzipped(gunzip: Gunzip, source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  try {
    for await (const { length } of source) yield* gunzip.decode(length)
    gunzip.end()
  } catch (error) {
    throw error instanceof Fault || isSystemError(error) ? error : badStream('gzip', error)
  }
}

async function* decoded(codec: 'gzip' | 'zstd', source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const decoder: Transform =
    codec === 'gzip'
      ? createGunzip({ chunkSize: PLAIN_BYTES })
      : createZstdDecompress({
          chunkSize: PLAIN_BYTES,
          params: { [constants.ZSTD_d_windowLogMax]: MAX_WINDOW_LOG },
        })
  const pieces = codec === 'zstd' ? framesIn(source) : source
  void feed(decoder, pieces) // a failure comes out of the iteration below
  try {
    for await (const chunk of decoder) {
      yield chunk
      release(chunk)
    }
  } catch (error) {
    throw error instanceof Fault ? error : badStream(codec, error)
  }
}

function badStream(codec: Codec, error: unknown): Fault {
  const reason = error instanceof Error ? error.message : String(error)
  return new Fault('invalid-argument', `Cannot decompress the layer: the ${codec} stream is bad: ${reason}`)
}

async function feed(decoder: Transform, pieces: AsyncIterable<Buffer>): Promise<void> {
  try {
    for await (const piece of pieces) {
      if (decoder.destroyed) return
      await new Promise<void>((resolve) => decoder.write(piece, () => resolve()))
    }
    decoder.end()
  } catch (error) {
    decoder.destroy(error instanceof Error ? error : new Error(String(error)))
  }
}

/**
 * Gives the memory of a chunk back when nothing follows it there: what lies outside the heap is collected late, and a thread
 * would hold a hundred times what it works on.
 */
function release({ buffer, byteOffset, length }: Buffer): void {
  if (!(buffer instanceof ArrayBuffer) || buffer.byteLength <= Buffer.poolSize) return // small ones share memory
  if (byteOffset + length === buffer.byteLength) buffer.transfer(0)
}

/** No piece reaches over the end of a frame. */
async function* framesIn(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const filter = createFrameFilter()
  for await (const chunk of source) yield* filter.push(chunk)
  filter.end()
}

/** Reads by position, so that several may read one descriptor; each chunk takes the place of the one before. */
async function* chunksOf({ fd, arriving, rest }: Source, buffer: Buffer): AsyncGenerator<Buffer> {
  for (let position = 0; ; ) {
    const size = arriving ? Math.min(await readable(arriving, position, rest), buffer.length) : buffer.length
    const length = readSync(fd, buffer, 0, size, position)
    if (length === 0) return
    position += length
    yield buffer.subarray(0, length)
  }
}

async function startOf({ fd, arriving, rest }: Source): Promise<Buffer> {
  for (let there = 0, more = 1; arriving && there < MAGIC_BYTES && more > 0; there += more)
    more = await readable(arriving, there, rest)
  const start = Buffer.alloc(MAGIC_BYTES)
  return start.subarray(0, readSync(fd, start, 0, MAGIC_BYTES, 0))
}
