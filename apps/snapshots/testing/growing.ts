import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Digest, sha256Of } from '@gantry/model/digest'

/** A blob of which there are only the first bytes. */
export interface GrowingBlob {
  readonly digest: Digest
  /** Has the file hold these bytes, and says so; they may be others than the blob's own. */
  grow(bytes: Buffer): void
  /** Puts the blob in its place. */
  finish(): void
  /** Nobody brings it any more. */
  fail(): void
}

interface Entry {
  readonly path: string
  bytes: number
  changed: PromiseWithResolvers<void>
}

interface Whole {
  readonly folder: string
  blob(digest: string): { readonly path: string; readonly bytes: Buffer }
  addBlob(bytes: Buffer): Digest
}

/** Blobs that are on their way. */
export function playGrowing({ folder, blob, addBlob }: Whole) {
  const entries = new Map<string, Entry>()

  function growBlob(whole: Buffer): GrowingBlob {
    const digest = sha256Of(whole)
    const path = join(folder, `growing-${digest.slice(-16)}`)
    writeFileSync(path, '')
    const entry: Entry = { path, bytes: 0, changed: Promise.withResolvers() }
    entries.set(digest, entry)
    const change = (): void => {
      entry.changed.resolve()
      entry.changed = Promise.withResolvers()
    }
    const end = (): void => {
      rmSync(path)
      entries.delete(digest)
      change()
    }
    return {
      digest,
      grow(bytes) {
        writeFileSync(path, bytes)
        entry.bytes = bytes.length
        change()
      },
      finish() {
        addBlob(whole)
        end()
      },
      fail: end,
    }
  }

  async function* follow(digest: string) {
    for (let entry = entries.get(digest); entry; entry = entries.get(digest)) {
      const { path, bytes, changed } = entry
      yield { path, bytes: BigInt(bytes) }
      await changed.promise
    }
    const { path, bytes } = blob(digest)
    yield { path, bytes: BigInt(bytes.length), done: true }
  }

  return { growBlob, follow }
}
