import { existsSync, renameSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { setImmediate as breathe } from 'node:timers/promises'
import type { Digest } from '@gantry/model/digest'
import type { Folder } from './folder.ts'
import { hasBecome } from './ingests.ts'
import { holdersOf, type Rows } from './rows.ts'

const STEP = 500 // files between two turns of others

/** The bytes of committed blobs, which no namespace may have any more. */
export interface Bytes {
  /** Has a namespace the blob, or does an upload stand for it? */
  isKept(digest: Digest): boolean
  /**
   * Deletes the bytes unless somebody has them, or is about to. Safe beside commits: they look for the bytes when they
   * write the name, and there is no pause here between look and move.
   */
  drop(digest: Digest): Promise<'gone' | 'absent' | 'kept' | 'claimed'>
  /** Those on disk that no namespace has, as far as it can be said while others go on: `drop` looks again. */
  unnamed(): AsyncIterable<Digest>
  /** Are they those of an upload that was proven and became a blob just before a crash? Its client comes back for them. */
  isAwaited(digest: Digest): Promise<boolean>
}

export function createBytes({ rows, folder }: { rows: Rows; folder: Folder }): Bytes {
  function isKept(digest: Digest): boolean {
    for (const _ of holdersOf(rows, digest)) return true
    for (const { value } of rows.ingests.list()) if (value.shared === digest) return true
    return false
  }
  return {
    isKept,
    async drop(digest) {
      const path = folder.blobPath(digest)
      const aside = folder.asidePath(digest) // the next start clears it after a crash
      if (folder.isClaimed(digest)) return 'claimed'
      if (isKept(digest)) return 'kept'
      const isThere = existsSync(path)
      if (isThere) renameSync(path, aside)
      await rm(aside, { recursive: true, force: true })
      return isThere ? 'gone' : 'absent'
    },
    async isAwaited(digest) {
      for (const { value } of rows.ingests.list()) if (await hasBecome(digest, value, folder)) return true
      return false
    },
    /** Both lists are in the order of digests, so one walk along them will do: there may be many. */
    async *unnamed() {
      const holders = rows.holders.list()[Symbol.iterator]()
      let holder = holders.next()
      let seen = 0
      for (const digest of await folder.blobs()) {
        if (++seen % STEP === 0) await breathe()
        while (!holder.done && (holder.value.key[0] ?? '') < digest) holder = holders.next()
        if (holder.done || holder.value.key[0] !== digest) yield digest
      }
    },
  }
}
