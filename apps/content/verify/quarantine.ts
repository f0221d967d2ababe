/**
 * Takes rotten bytes out of use:
 *
 *   record `condemned` -> the file moves to content/quarantine/<algorithm>/<hex> -> no namespace has the blob any more
 *
 * In this order nobody can take rotten bytes for the blob once its name is gone, and a crash in between is found at the
 * next start by the record.
 */
import { existsSync, mkdirSync, renameSync, statSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { ContentDeleteSchema } from '@gantry/api/containerd/events/content_pb'
import { type Digest, digestParts, parseDigest } from '@gantry/model/digest'
import type { Parts } from '../blobs/ingests.ts'
import { holdersOf, removeBlob } from '../blobs/rows.ts'

export interface Quarantine {
  /** Where rotten bytes of the blob come to lie; what rotted before under that name is replaced. */
  pathOf(digest: Digest): string
  /** Moves the file with this inode aside; returns who had the blob. */
  take(digest: Digest, inode: bigint): Promise<string[]>
  /** Takes the blob from all namespaces unless its bytes are there (again); returns who had it. */
  settle(digest: Digest): Promise<string[]>
  /** What an earlier process did not bring to its end. */
  unsettled(): Digest[]
}

const NOTHING = new Uint8Array()

export function createQuarantine({ rows, folder, changes }: Pick<Parts, 'rows' | 'folder' | 'changes'>): Quarantine {
  const pathOf = (digest: Digest): string => {
    const { algorithm, hex } = digestParts(digest)
    return join(folder.root, 'quarantine', algorithm, hex)
  }

  function settle(digest: Digest): Promise<string[]> {
    return changes.write((emit) => {
      rows.condemned.remove([digest])
      if (existsSync(folder.blobPath(digest))) return []
      const namespaces = [...holdersOf(rows, digest)]
      for (const namespace of namespaces) {
        removeBlob(rows, namespace, digest)
        emit(namespace, '/content/delete', ContentDeleteSchema, { digest })
      }
      return namespaces
    })
  }

  return {
    pathOf,
    settle,
    async take(digest, inode) {
      const [from, to] = [folder.blobPath(digest), pathOf(digest)]
      mkdirSync(dirname(to), { recursive: true, mode: 0o700 })
      await changes.write(() => rows.condemned.put([digest], NOTHING))
      // no pause between look and move: sound bytes may have come under the same name meanwhile
      if (statSync(from, { bigint: true, throwIfNoEntry: false })?.ino === inode) renameSync(from, to)
      for (const path of [dirname(to), dirname(from)]) await syncFolder(path)
      return await settle(digest)
    },
    unsettled: () => Array.from(rows.condemned.list(), ({ key }) => parseDigest(key[0] ?? '')),
  }
}

async function syncFolder(path: string): Promise<void> {
  await using folder = await open(path, 'r')
  await folder.sync()
}
