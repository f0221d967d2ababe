import { createEntryReader, type Next, paddingOf, type TarHandler } from './entry-reader.ts'
import type { Limits } from './limits.ts'
import { BLOCK, isZeroBlock, malformed } from './tar-header.ts'

export interface TarParser {
  /** The next bytes of the archive, cut anywhere. */
  push(chunk: Buffer): void
  /** No more bytes. @throws {Fault} `invalid-argument` when the archive stops in the middle of something */
  end(): void
}

/**
 * Takes an archive apart as its bytes come. Instead of a parser from the registry, because values of extended headers are
 * bytes here (capabilities are binary), times keep their nanoseconds, and every size is bounded before it is held in memory.
 *
 * Everything behind the end mark is let through unread.
 */
export function createTarParser(handler: TarHandler, limits: Limits): TarParser {
  const reader = createEntryReader(handler, limits)
  const held = createHolder()
  let state: Next = { wants: 'header' }

  /** Consumes some of `chunk` from `offset` and returns where to go on. */
  function step(chunk: Buffer, offset: number): number {
    switch (state.wants) {
      case 'content': {
        const piece = chunk.subarray(offset, offset + state.left)
        state.place?.(piece)
        const left = state.left - piece.length
        if (left === 0 && state.place) handler.end()
        state = left === 0 ? paddingOf(state.padding) : { ...state, left }
        return offset + piece.length
      }
      case 'padding': {
        const taken = Math.min(state.left, chunk.length - offset)
        state = taken === state.left ? { wants: 'header' } : { wants: 'padding', left: state.left - taken }
        return offset + taken
      }
      case 'nothing':
        return chunk.length
      default: {
        const [whole, next] = held.take(chunk, offset, state.wants === 'extension' ? state.size : BLOCK)
        if (whole) state = onWhole(state, whole)
        return next
      }
    }
  }

  function onWhole(wanted: Next, bytes: Buffer): Next {
    if (wanted.wants === 'extension') return reader.extension(wanted.flag, bytes)
    if (wanted.wants === 'old-holes') return reader.oldHoles(wanted.file, bytes)
    if (wanted.wants === 'holes') return reader.holes(wanted.file, bytes)
    if (wanted.wants !== 'second-zero') return reader.header(bytes)
    if (!isZeroBlock(bytes)) throw malformed('it goes on after a block of zeros')
    return { wants: 'nothing' }
  }

  return {
    push(chunk) {
      for (let offset = 0; offset < chunk.length; ) offset = step(chunk, offset)
    },
    end() {
      const atBorder = state.wants === 'header' || state.wants === 'second-zero' || state.wants === 'nothing'
      if (!atBorder || held.holds()) throw malformed('it is cut off')
    },
  }
}

/** Collects a fixed number of bytes that may arrive in pieces. */
function createHolder() {
  let pieces: Buffer[] = []
  let length = 0
  return {
    holds: () => length > 0,
    take(chunk: Buffer, offset: number, size: number): readonly [Buffer | undefined, number] {
      const piece = chunk.subarray(offset, offset + size - length)
      const next = offset + piece.length
      if (length === 0 && piece.length === size) return [piece, next]
      pieces.push(Buffer.from(piece))
      length += piece.length
      if (length < size) return [undefined, next]
      const whole = Buffer.concat(pieces)
      pieces = []
      length = 0
      return [whole, next]
    },
  }
}
