import { closeSync, openSync, readFileSync, renameSync, writeFileSync, writeSync } from 'node:fs'

const DIGITS = 16 // always as many, so that one number covers the other

/**
 * The file `front` of an upload: how many bytes `data` has from its start on without a gap. It is there from before the
 * first byte that lies behind one; without it that is the size of `data`. Never synced, as `data` is not: what a digest
 * disproves is fetched again.
 */
export interface Front extends Disposable {
  at(bytes: number): void
}

export function openFront(path: string, bytes: number): Front {
  writeFileSync(`${path}.new`, textOf(bytes))
  renameSync(`${path}.new`, path)
  const fd = openSync(path, 'r+')
  return {
    at: (now) => void writeSync(fd, textOf(now), 0),
    [Symbol.dispose]: () => closeSync(fd),
  }
}

/** How many of the `size` bytes in `data` are without a gap. */
export function frontOf(path: string, size: number): number {
  try {
    return Math.min(Number(readFileSync(path, 'latin1')) || 0, size)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return size
    throw error
  }
}

function textOf(bytes: number): string {
  return String(bytes).padStart(DIGITS, '0')
}
