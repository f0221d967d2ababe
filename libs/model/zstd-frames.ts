import { Fault } from './fault.ts'

const FRAME = 0xfd2fb528
const SKIPPABLE = 0x184d2a50 // the lowest four bits are free

/** What the next bytes are: a part that is read as a whole, or one that is passed on (or over) as it comes. */
type State =
  | { readonly part: 'magic' | 'skip-size' | 'descriptor' | 'block-header'; readonly size: number }
  | { readonly part: 'skipped' | 'header' | 'block' | 'checksum'; readonly left: number }

const MAGIC: State = { part: 'magic', size: 4 }
const BLOCK_HEADER: State = { part: 'block-header', size: 3 }

/**
 * Passes the frames of a zstd stream on, no piece reaching over the end of a frame, and leaves skippable frames out. Node's
 * decoder forgets what follows the end of a frame in one write, stops for good at a skippable frame, and takes a second frame
 * that is cut off for the end: following the frame borders here mends all three. The stream arrives piece by piece: `push`
 * answers what to pass on, `end` proves that it was whole.
 *
 * @throws {Fault} `invalid-argument` when the stream is cut off, or goes on with something else
 * @see https://www.rfc-editor.org/rfc/rfc8878 sections 3.1.1 and 3.1.2
 */
export function createFrameFilter() {
  let state = MAGIC
  let held = Buffer.alloc(0) // the beginning of a part that is read as a whole
  let checksum = false // has the frame one at its end?
  let last = false // is this the frame's last block?

  const afterBlock = (): State => (!last ? BLOCK_HEADER : checksum ? { part: 'checksum', left: 4 } : MAGIC)
  const afterPassed = (part: State['part']): State =>
    part === 'header' ? BLOCK_HEADER : part === 'block' ? afterBlock() : MAGIC

  /** Reads a whole part; answers what follows and whether the part belongs to a frame. */
  function read(part: State['part'], bytes: Buffer): { next: State; keep: boolean } {
    switch (part) {
      case 'magic': {
        const magic = bytes.readUInt32LE()
        if (magic === FRAME) return { next: { part: 'descriptor', size: 1 }, keep: true }
        if ((magic & 0xfffffff0) >>> 0 === SKIPPABLE) return { next: { part: 'skip-size', size: 4 }, keep: false }
        throw new Fault('invalid-argument', 'Cannot decompress: the zstd stream goes on with something else')
      }
      case 'skip-size': {
        const left = bytes.readUInt32LE()
        return { next: left === 0 ? MAGIC : { part: 'skipped', left }, keep: false }
      }
      case 'descriptor': {
        const descriptor = bytes.readUInt8()
        checksum = (descriptor & 0x04) !== 0
        const left = headerSize(descriptor)
        return { next: left === 0 ? BLOCK_HEADER : { part: 'header', left }, keep: true }
      }
      default: {
        const header = bytes.readUIntLE(0, 3)
        last = (header & 1) !== 0
        const left = ((header >> 1) & 3) === 1 ? 1 : header >> 3 // a block of one repeated byte stores that byte alone
        return { next: left === 0 ? afterBlock() : { part: 'block', left }, keep: true }
      }
    }
  }

  return {
    push(chunk: Buffer): Buffer[] {
      const frames: Buffer[] = []
      let kept: Buffer[] = []
      for (let offset = 0; offset < chunk.length; ) {
        if ('size' in state) {
          const piece = chunk.subarray(offset, offset + state.size - held.length)
          offset += piece.length
          held = Buffer.concat([held, piece])
          if (held.length < state.size) continue
          const { next, keep } = read(state.part, held)
          if (keep) kept.push(held)
          held = Buffer.alloc(0)
          state = next
        } else {
          const piece = chunk.subarray(offset, offset + state.left)
          offset += piece.length
          if (state.part !== 'skipped') kept.push(piece)
          const left = state.left - piece.length
          state = left === 0 ? afterPassed(state.part) : { part: state.part, left }
        }
        if (state !== MAGIC || kept.length === 0) continue
        frames.push(Buffer.concat(kept))
        kept = []
      }
      return kept.length === 0 ? frames : [...frames, Buffer.concat(kept)]
    },
    end() {
      if (state !== MAGIC || held.length > 0)
        throw new Fault('invalid-argument', 'Cannot decompress: the zstd stream is cut off')
    },
  }
}

/** Bytes of a frame header behind the descriptor byte. */
function headerSize(descriptor: number): number {
  const single = (descriptor & 0x20) !== 0
  const sizeFlag = descriptor >> 6
  const content = sizeFlag === 0 ? (single ? 1 : 0) : 1 << sizeFlag
  const dictionary = [0, 1, 2, 4][descriptor & 3] ?? 0
  return (single ? 0 : 1) + dictionary + content
}
