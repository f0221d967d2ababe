const SLAB = 256 * 1024 // bytes: about what a socket hands over at once
const MAX_FREE = 16 // slabs that wait for their next use
const SMALL = 16 * 1024 // bytes: up to here a copy costs less than to keep a whole slab from its next use

/**
 * Memory for what comes out of a socket, used again and again: fresh memory for each read costs more than the read, and
 * lets the process grow.
 */
export interface Slabs {
  /** Where the socket is to write next. What is read of it must be held before this is called again. */
  next(): Uint8Array
  /** Keeps bytes of the slab that was read last; they may be a copy. */
  hold(piece: Buffer): { readonly bytes: Buffer; release(): void }
}

interface Slab {
  readonly bytes: Buffer
  users: number
}

export function createSlabs(): Slabs {
  const free: Slab[] = []
  let current: Slab | undefined

  function release(slab: Slab): void {
    slab.users--
    if (slab.users === 0 && free.length < MAX_FREE) free.push(slab)
  }

  return {
    next() {
      const last = current
      if (last?.users === 1) return last.bytes // nobody holds a part of it
      current = free.pop() ?? { bytes: Buffer.allocUnsafeSlow(SLAB), users: 0 }
      current.users = 1 // the socket
      if (last) release(last)
      return current.bytes
    },
    hold(piece) {
      const slab = current
      if (piece.length <= SMALL || !slab) return { bytes: Buffer.from(piece), release: () => undefined }
      slab.users++
      return { bytes: piece, release: () => release(slab) }
    },
  }
}
