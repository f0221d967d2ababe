import { existsSync, renameSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Digest } from '@gantry/model/digest'
import type { Folder } from './folder.ts'
import { holdersOf, type Rows } from './rows.ts'

/** The bytes of committed blobs, which no namespace may have any more. */
export interface Bytes {
  /** Has a namespace the blob, or does an upload stand for it? */
  isKept(digest: Digest): boolean
  /**
   * Deletes the bytes unless somebody has them, or is about to. Safe beside commits: they look for the bytes when they
   * write the name, and there is no pause here between look and move.
   */
  drop(digest: Digest): Promise<'gone' | 'kept' | 'claimed'>
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
      const aside = join(folder.root, 'ingest', `gone-${digest.replace(':', '-')}`) // the next start clears it after a crash
      if (folder.isClaimed(digest)) return 'claimed'
      const kept = isKept(digest)
      if (!kept && existsSync(path)) renameSync(path, aside)
      await rm(aside, { force: true })
      return kept ? 'kept' : 'gone'
    },
  }
}
