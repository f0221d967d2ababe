const HEAD = 64 // bytes that may stand before the data of a message
const MAX_FREE = 16 // chunks that wait for their next use

/** Memory for one message that is sent: its data are put where the message has them. */
export interface Chunk {
  readonly data: Uint8Array
  /** The message with the first `size` bytes of the data. @param head what it has before them, 64 bytes at most */
  message(head: Uint8Array, size: number): Uint8Array
  /** It may be used again. */
  free(): void
}

/** Chunks that are used again and again: fresh memory for each costs more than to read into it. */
export interface Chunks {
  /** @param size bytes of data it has room for, at least; up to `largest` */
  take(size: number): Chunk
}

/** @param largest bytes of data in one message */
export function createChunks(largest: number): Chunks {
  const free: Chunk[] = []
  return {
    take(size) {
      if (size < largest / 2) return createChunk(size, () => undefined) // of many that are sent at once, or a small one
      const chunk: Chunk = free.pop() ?? createChunk(largest, () => void (free.length < MAX_FREE && free.push(chunk)))
      return chunk
    },
  }
}

function createChunk(size: number, free: () => void): Chunk {
  const bytes = Buffer.allocUnsafeSlow(HEAD + size)
  return {
    data: bytes.subarray(HEAD),
    message(head, length) {
      bytes.set(head, HEAD - head.length)
      return bytes.subarray(HEAD - head.length, HEAD + length)
    },
    free,
  }
}
