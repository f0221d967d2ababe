/** How much of a file that is still being written may be read: one shared word, for a thread that waits for more. */

/** Bytes that may be read times 4, plus the state. */
export type Mark = BigInt64Array

const PATIENCE_MS = 100 // before others may have the turn of a thread that waits

/** `partial`: more may come. `whole`: that is all. `stale`: what was read is of no use. */
const STATES = { partial: 0n, whole: 1n, stale: 2n } as const
const STATE_BITS = 2n
const STATE_MASK = 3n

export function createMark(): Mark {
  return new BigInt64Array(new SharedArrayBuffer(BigInt64Array.BYTES_PER_ELEMENT))
}

/** Says how much there is now. */
export function setMark(mark: Mark, bytes: bigint, state: keyof typeof STATES): void {
  Atomics.store(mark, 0, (bytes << STATE_BITS) | STATES[state])
  Atomics.notify(mark, 0)
}

/**
 * Bytes that may be read behind `position`, as soon as there are some; 0 at the end of the file.
 * @param rest hears when that takes long, and when it is over
 * @throws {Error} when the file is of no use any more
 */
export async function readable(mark: Mark, position: number, rest: (waits: boolean) => void): Promise<number> {
  for (;;) {
    const word = Atomics.load(mark, 0)
    const state = word & STATE_MASK
    if (state === STATES.stale) throw new Error('The file is of no use any more')
    const bytes = Number(word >> STATE_BITS) - position
    if (bytes > 0 || state === STATES.whole) return Math.max(bytes, 0)
    if ((await Atomics.waitAsync(mark, 0, word, PATIENCE_MS).value) !== 'timed-out') continue
    rest(true)
    await Atomics.waitAsync(mark, 0, word).value
    rest(false)
  }
}
