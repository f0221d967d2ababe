import type { FileHandle } from 'node:fs/promises'

const STEP = 8 * 1024 * 1024 // bytes that are written to disk together
const SIDE_BY_SIDE = 2 // files: each takes a thread of node's pool, which has four

/** Brings a file to disk while it still grows, so that little is left to wait for when it is complete. */
export interface Writeback {
  /** There are `size` bytes in the file. */
  grown(size: number): void
  /** Starts with what is there, be it little. */
  flush(): void
  /** Waits for what is on its way to disk. @throws what went wrong: the kernel tells it once, and a later sync succeeds */
  settled(): Promise<void>
}

let running = 0

export function createWriteback(file: Pick<FileHandle, 'datasync'>): Writeback {
  let started = 0
  let last: Promise<void> | undefined
  let failed: { readonly error: unknown } | undefined

  async function write(): Promise<void> {
    running++
    try {
      await file.datasync()
    } catch (error) {
      failed ??= { error }
    } finally {
      running--
    }
  }

  return {
    grown(size) {
      if (size < started) started = 0
      if (last || size - started < STEP || running >= SIDE_BY_SIDE) return
      started = size
      last = write().then(() => {
        last = undefined
      })
    },
    flush() {
      last = Promise.all([last, write()]).then(() => undefined)
    },
    async settled() {
      await last
      if (failed) throw failed.error
    },
  }
}
