import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import { ReadContentResponseSchema } from '@gantry/api/containerd/services/content/v1/content_pb'

const LARGEST = 256 * 1024 // bytes of data in one message
const HEAD = 17 // bytes that offset and length take at most
const MAX_FREE = 16 // chunks that wait for their next use
const { offset, data } = ReadContentResponseSchema.field

/** Memory for one message of Read: the data are read into it where the message has them. */
export interface Chunk {
  readonly data: Uint8Array
  /** The message with the first `size` bytes of the data. @param at the offset it tells */
  message(at: bigint, size: number): Uint8Array
  /** It may be used again. */
  free(): void
}

/** Chunks that are used again and again: fresh memory for each costs more than to read into it. */
export function createChunks(): { take(size: number): Chunk; readonly largest: number } {
  const free: Chunk[] = []
  return {
    largest: LARGEST,
    /** @param size bytes of data it has room for, at least */
    take(size) {
      if (size < LARGEST / 2) return createChunk(size, () => undefined) // of many reads, or a small blob
      const chunk: Chunk = free.pop() ?? createChunk(LARGEST, () => void (free.length < MAX_FREE && free.push(chunk)))
      return chunk
    },
  }
}

function createChunk(size: number, free: () => void): Chunk {
  const bytes = Buffer.allocUnsafeSlow(HEAD + size)
  return {
    data: bytes.subarray(HEAD),
    message(at, length) {
      const writer = new BinaryWriter()
      if (at > 0n) writer.tag(offset.number, WireType.Varint).int64(at)
      const head = writer.tag(data.number, WireType.LengthDelimited).uint32(length).finish()
      bytes.set(head, HEAD - head.length)
      return bytes.subarray(HEAD - head.length, HEAD + length)
    },
    free,
  }
}
