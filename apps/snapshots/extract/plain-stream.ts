import { readSync } from 'node:fs'
import { pipeline, Readable, type Transform } from 'node:stream'
import { constants, createGunzip, createZstdDecompress } from 'node:zlib'
import { codecOf } from '@gantry/model/codec'
import { Fault } from '@gantry/model/fault'
import { zstdFrames } from '@gantry/model/zstd-frames'
import type { Limits } from './limits.ts'

const READ_BYTES = 256 * 1024
const PLAIN_BYTES = 256 * 1024 // of one chunk that a decoder puts out
const MAX_WINDOW_LOG = 27 // 128 MiB, what zstd itself accepts unless told: more is memory the archive takes from us

/**
 * The plain bytes of the blob open at `fd`, while decoding goes on in the background. The descriptor stays open.
 *
 * @param detect follow the magic bytes; otherwise the blob is taken as it is
 * @throws {Fault} `invalid-argument` for a stream that is cut off or corrupt, `resource-exhausted` beyond the limits
 */
export async function* plainStream(fd: number, detect: boolean, limits: Limits): AsyncGenerator<Buffer> {
  let read = 0
  let written = 0
  const source = function* () {
    for (const chunk of chunksOf(fd)) {
      read += chunk.length
      yield chunk
    }
  }
  const codec = detect ? codecOf(startOf(fd)) : 'none'
  const plain = codec === 'none' ? source() : decoded(codec, source())
  for await (const chunk of plain) {
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

async function* decoded(codec: 'gzip' | 'zstd', source: Iterable<Buffer>): AsyncGenerator<Buffer> {
  const decoder: Transform =
    codec === 'gzip'
      ? createGunzip({ chunkSize: PLAIN_BYTES })
      : createZstdDecompress({
          chunkSize: PLAIN_BYTES,
          params: { [constants.ZSTD_d_windowLogMax]: MAX_WINDOW_LOG },
        })
  const pieces = codec === 'zstd' ? zstdFrames(source) : source
  const input = Readable.from(pieces, { highWaterMark: 2 }) // counted in pieces, which keep their borders
  pipeline(input, decoder, () => {}) // a failure comes out of the iteration below
  try {
    for await (const chunk of decoder) yield chunk
  } catch (error) {
    if (error instanceof Fault) throw error
    const reason = error instanceof Error ? error.message : String(error)
    throw new Fault('invalid-argument', `Cannot decompress the layer: the ${codec} stream is bad: ${reason}`)
  }
}

/** Reads by position, so that several may read one descriptor. */
function* chunksOf(fd: number): Generator<Buffer> {
  for (let position = 0; ; ) {
    const buffer = Buffer.allocUnsafeSlow(READ_BYTES)
    const length = readSync(fd, buffer, 0, READ_BYTES, position)
    if (length === 0) return
    position += length
    yield buffer.subarray(0, length)
  }
}

function startOf(fd: number): Buffer {
  const start = Buffer.alloc(4)
  return start.subarray(0, readSync(fd, start, 0, 4, 0))
}
