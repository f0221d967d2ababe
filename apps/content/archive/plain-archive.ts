import { pipeline, Readable } from 'node:stream'
import { constants, createGunzip, createZstdDecompress } from 'node:zlib'
import { codecOf } from '@gantry/model/codec'
import { Fault } from '@gantry/model/fault'
import { createFrameFilter } from '@gantry/model/zstd-frames'

const CHUNK = 256 * 1024 // bytes of one chunk that a decoder puts out
const MAX_WINDOW_LOG = 27 // 128 MiB, what zstd itself accepts unless told
const RATIO = 2000 // what no archive of layers that are compressed already comes near to
const RATIO_FROM = 256 * 1024 * 1024 // plain bytes from which on the ratio counts

/**
 * The plain bytes of an archive that may be compressed as a whole, told by its first bytes.
 *
 * @throws {Fault} `invalid-argument` when it is cut off or corrupt, `resource-exhausted` when it is a bomb
 */
export async function* plainArchive(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const { start, all } = await peek(source, 4)
  const codec = codecOf(start)
  if (codec === 'none') return yield* all
  let [read, written] = [0, 0]
  const counted = async function* (): AsyncGenerator<Uint8Array> {
    for await (const chunk of all) {
      read += chunk.length
      yield chunk
    }
  }
  for await (const chunk of decoded(codec, counted())) {
    written += chunk.length
    if (written > RATIO_FROM && written > read * RATIO)
      throw new Fault('resource-exhausted', `Cannot read the archive: it unpacks to over ${RATIO} times its size`)
    yield chunk
  }
}

async function* decoded(codec: 'gzip' | 'zstd', source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const decoder =
    codec === 'gzip'
      ? createGunzip({ chunkSize: CHUNK })
      : createZstdDecompress({ chunkSize: CHUNK, params: { [constants.ZSTD_d_windowLogMax]: MAX_WINDOW_LOG } })
  const pieces = codec === 'zstd' ? framed(source) : source
  const input = Readable.from(pieces, { highWaterMark: 2 })
  let failure: unknown
  pipeline(input, decoder, (error) => {
    failure = error
  })
  try {
    for await (const chunk of decoder) yield chunk
  } catch (error) {
    throw badStream(codec, failure ?? error)
  }
}

async function* framed(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const frames = createFrameFilter()
  for await (const chunk of source) yield* frames.push(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length))
  frames.end()
}

/** What failed behind the decoder, such as the client that hung up, is no fault of the bytes. */
function badStream(codec: string, error: unknown): unknown {
  if (!(error instanceof Error) || !('code' in error) || error instanceof Fault) return error
  return new Fault('invalid-argument', `Cannot read the archive: the ${codec} stream is bad: ${error.message}`)
}

/** The first bytes, and all of them from the beginning. */
async function peek(source: AsyncIterable<Uint8Array>, wanted: number) {
  const chunks = source[Symbol.asyncIterator]()
  let start = Buffer.alloc(0)
  let ended = false
  while (start.length < wanted && !ended) {
    const next = await chunks.next()
    if (next.done) ended = true
    else start = Buffer.concat([start, next.value])
  }
  async function* all(): AsyncGenerator<Uint8Array> {
    try {
      if (start.length > 0) yield start
      while (!ended) {
        const next = await chunks.next()
        if (next.done) return
        yield next.value
      }
    } finally {
      await chunks.return?.()
    }
  }
  return { start, all: all() }
}
