import type { Sink } from './ask.ts'

const BATCH = 1024 * 1024 // bytes that are handed over together
const LATE_MS = 50 // what has come is handed over after so long, also when it is less

/** A body on its way from whoever receives it to whoever reads it, in large pieces. What came before an error is handed over. */
export interface Batches extends Sink {
  /** A piece is good until the next one is asked for: its memory is used again. */
  readonly pieces: AsyncIterable<Uint8Array>
}

/**
 * At most three pieces are in memory: one that is read, one that waits, one that fills.
 *
 * @param size of the body in bytes, when it is known
 * @param resume called when there is room again
 */
export function createBatches(size: number | undefined, resume: () => void): Batches {
  const length = Math.max(1, Math.min(size ?? BATCH, BATCH))
  const free: Buffer[] = []
  const full: { buffer: Buffer; used: number }[] = []
  let filling: Buffer | undefined
  let used = 0
  let over: { readonly error: unknown } | undefined
  let news: PromiseWithResolvers<void> | undefined
  let late: NodeJS.Timeout | undefined

  /** Hands over what there is, whether a buffer is full or not. */
  function cut(): void {
    clearTimeout(late)
    late = undefined
    if (filling && used > 0) full.push({ buffer: filling, used })
    filling = undefined
    used = 0
    news?.resolve()
  }

  async function* read(): AsyncGenerator<Uint8Array> {
    for (;;) {
      const piece = full.shift()
      if (piece) {
        if (!over) resume()
        yield piece.buffer.subarray(0, piece.used)
        free.push(piece.buffer)
      } else if (over) {
        if (over.error !== undefined) throw over.error
        return
      } else {
        news = Promise.withResolvers()
        if (used > 0) late = setTimeout(cut, LATE_MS)
        await news.promise
        news = undefined
      }
    }
  }

  return {
    put(chunk) {
      for (let at = 0; at < chunk.length; ) {
        filling ??= free.pop() ?? Buffer.allocUnsafeSlow(length)
        const part = chunk.subarray(at, at + filling.length - used)
        filling.set(part, used)
        used += part.length
        at += part.length
        if (used === filling.length) cut()
      }
      if (news && used > 0) late ??= setTimeout(cut, LATE_MS)
      return full.length === 0
    },
    end(error) {
      over ??= { error }
      cut()
    },
    pieces: { [Symbol.asyncIterator]: read },
  }
}
