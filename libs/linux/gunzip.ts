import { gzipSync } from 'node:zlib'
import koffi from 'koffi'

const LIBRARY = 'libisal.so.2'
const INPUT_BYTES = 256 * 1024
const OUTPUT_BYTES = 256 * 1024 // stays in the processor's cache while it is used
/** Larger than the library's `struct inflate_state` of 87,368 bytes. */
const STATE_BYTES = 128 * 1024
/** Places in that structure, and values, as in its igzip_lib.h; a trial at the start finds out when they are others. */
const [NEXT_OUT, AVAIL_OUT, NEXT_IN, AVAIL_IN, BLOCK_STATE, CRC_FLAG] = [0, 8, 16, 32, 21_160, 21_172]
const GZIP = 1
const BLOCK_FINISH = 5

/** Takes gzip apart in the thread that calls. Disposing frees its memory: nothing it has handed out may be used then. */
export interface Gunzip extends Disposable {
  /** Where compressed bytes are to be put. */
  readonly input: Buffer
  /**
   * Decodes the first `length` bytes of `input`. A piece is good until the next one is asked for, and all are to be asked
   * for. Members follow each other; zeros behind the last one are padding.
   * @throws {Error} when they are no gzip, or checksum or length of a member are wrong
   */
  decode(length: number): Generator<Buffer>
  /** That was all. @throws {Error} in the middle of a member */
  end(): void
}

/**
 * A decoder of Intel's ISA-L, which takes half of zlib's time; undefined where the host has none, or one we do not know.
 */
export const openGunzip: (() => Gunzip) | undefined = load()

function load(): (() => Gunzip) | undefined {
  try {
    const library = koffi.load(LIBRARY)
    const functions = {
      init: library.func('void isal_inflate_init(void *state)'),
      reset: library.func('void isal_inflate_reset(void *state)'),
      inflate: library.func('int isal_inflate(void *state)'),
    }
    const open = () => create(functions)
    return works(open) ? open : undefined
  } catch {
    return undefined // zlib does the same, slower
  }
}

type Function = (state: unknown) => unknown

function create({ init, reset, inflate }: Record<'init' | 'reset' | 'inflate', Function>): Gunzip {
  const memory = new DisposableStack()
  const allocate = (size: number) => {
    const pointer = koffi.alloc('uint8_t', size)
    memory.defer(() => koffi.free(pointer))
    return { pointer, address: koffi.address(pointer), bytes: Buffer.from(koffi.view(pointer, size)) }
  }
  const [state, input, output] = [allocate(STATE_BYTES), allocate(INPUT_BYTES), allocate(OUTPUT_BYTES)]
  const { bytes } = state
  let where: 'start' | 'member' | 'between' | 'padding' = 'start'

  function begin(): void {
    if (where === 'start') init(state.pointer)
    else reset(state.pointer)
    bytes.writeUInt32LE(GZIP, CRC_FLAG)
    where = 'member'
  }

  return {
    input: input.bytes,
    *decode(length) {
      bytes.writeBigUInt64LE(input.address, NEXT_IN)
      bytes.writeUInt32LE(length, AVAIL_IN)
      for (;;) {
        const left = bytes.readUInt32LE(AVAIL_IN)
        if (where === 'between' && left > 0 && input.bytes[length - left] === 0) where = 'padding'
        if (where === 'padding' || (left === 0 && where !== 'member')) return
        if (where !== 'member') {
          begin()
          bytes.writeBigUInt64LE(input.address + BigInt(length - left), NEXT_IN)
          bytes.writeUInt32LE(left, AVAIL_IN)
        }
        bytes.writeBigUInt64LE(output.address, NEXT_OUT)
        bytes.writeUInt32LE(OUTPUT_BYTES, AVAIL_OUT)
        const answer = Number(inflate(state.pointer))
        if (answer < 0) throw new Error(`ISA-L answers ${answer}`)
        const room = bytes.readUInt32LE(AVAIL_OUT)
        if (room < OUTPUT_BYTES) yield output.bytes.subarray(0, OUTPUT_BYTES - room)
        if (bytes.readUInt32LE(BLOCK_STATE) === BLOCK_FINISH) where = 'between'
        else if (room > 0 && bytes.readUInt32LE(AVAIL_IN) === 0) return
      }
    },
    end() {
      if (where === 'member') throw new Error('unexpected end of file')
    },
    [Symbol.dispose]: () => memory.dispose(),
  }
}

/** Does the library do what we know of it? Two members, pieces cut anywhere, and a checksum that is wrong. */
function works(open: () => Gunzip): boolean {
  const plain = Buffer.alloc(OUTPUT_BYTES + 1000, 'What repeats itself is told in few words. ')
  const one = gzipSync(plain)
  const two = Buffer.concat([one, one])
  if (!decodeAll(open, two).equals(Buffer.concat([plain, plain]))) return false
  const bad = Buffer.from(two)
  bad.writeUInt32LE((bad.readUInt32LE(bad.length - 8) ^ 1) >>> 0, bad.length - 8)
  try {
    decodeAll(open, bad)
    return false
  } catch {
    return true
  }
}

function decodeAll(open: () => Gunzip, blob: Buffer): Buffer {
  using gunzip = open()
  const pieces: Buffer[] = []
  for (let at = 0, length = 0; at < blob.length; at += length) {
    length = blob.copy(gunzip.input, 0, at, 2 * at + 1)
    for (const piece of gunzip.decode(length)) pieces.push(Buffer.from(piece))
  }
  gunzip.end()
  return Buffer.concat(pieces)
}
