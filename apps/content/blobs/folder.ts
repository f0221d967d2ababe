/**
 * Where bytes lie:
 *
 *   content/blobs/<algorithm>/<hex>   committed: mode 0444, never changed, on disk before its name is
 *   content/ingest/<id>/data          an upload in progress, append only, unless there is
 *   content/ingest/<id>/front         how far data is without a gap (blobs/front.ts)
 */
import { constants, mkdirSync } from 'node:fs'
import { type FileHandle, mkdir, open, readdir, rename, rm, rmdir, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type Digest, digestParts, isDigest } from '@gantry/model/digest'
import { Fault } from '@gantry/model/fault'

const ASIDE = 'gone-'
const ABSENT = ['ENOENT', 'ENOTDIR', 'ELOOP'] // nothing, something else, a link that leads nowhere

export interface Folder {
  readonly root: string
  blobPath(digest: Digest): string
  /** Size of a committed blob in bytes, undefined when there is none. */
  blobSize(digest: Digest): Promise<bigint | undefined>
  /** Opens a committed blob to read it, undefined when there is none. */
  openBlob(digest: Digest): Promise<FileHandle | undefined>
  ingestPath(id: string): string
  frontPath(id: string): string
  /** Are there bytes of the ingest, be it none yet? Not any more once they were adopted. */
  hasIngest(id: string): Promise<boolean>
  /** Opens the bytes of an ingest to go on with them; made when they are not there. */
  openIngest(id: string): Promise<FileHandle>
  /** Turns the bytes of an ingest into the blob `digest`, which they must have been proven to be. */
  adopt(id: string, file: FileHandle, digest: Digest): Promise<void>
  dropIngest(id: string): Promise<void>
  /** All that have bytes, whoever knows them, in their order. */
  blobs(): Promise<Digest[]>
  /** What lies among the blobs and is none, as paths in their order. */
  strays(): Promise<string[]>
  /** Where bytes of a blob that lost its name wait to be deleted. */
  asidePath(digest: Digest): string
  /** The ids of all that have a folder, whoever knows them. */
  ingests(): Promise<string[]>
  ingestFolder(id: string): string
  /** Did this process open the ingest, and not drop it since? It may have no record yet. */
  isOpened(id: string): boolean
  /** Until it is disposed the bytes of the blob stay, be they there already: somebody is about to have a name for them. */
  claim(digest: Digest): Disposable
  isClaimed(digest: Digest): boolean
  /** Removes the ingests that no record names any more. */
  sweep(known: ReadonlySet<string>): Promise<number>
}

/** @throws {Fault} `failed-precondition` when the folder cannot be made */
export function openFolder(root: string): Folder {
  const blobs = join(root, 'blobs')
  const ingests = join(root, 'ingest')
  const ingestPath = (id: string): string => join(ingests, id, 'data')
  const blobPath = (digest: Digest): string => {
    const { algorithm, hex } = digestParts(digest)
    return join(blobs, algorithm, hex)
  }
  makeFolders([ingests, ...['sha256', 'sha384', 'sha512'].map((algorithm) => join(blobs, algorithm))])

  const claims = new Map<Digest, number>()
  const opened = new Set<string>()
  const syncs = createFolderSyncs()
  const blobSize = async (digest: Digest): Promise<bigint | undefined> => sizeOf(blobPath(digest))

  return {
    root,
    blobPath,
    blobSize,
    openBlob: (digest) => ifThere(open(blobPath(digest))),
    ingestPath,
    frontPath: (id) => join(ingests, id, 'front'),
    hasIngest: async (id) => (await sizeOf(ingestPath(id))) !== undefined,
    openIngest(id) {
      opened.add(id)
      return onDisk(ingests, async () => {
        await makeFolder(join(ingests, id))
        return await open(ingestPath(id), constants.O_RDWR | constants.O_CREAT, 0o600)
      })
    },
    async adopt(id, file, digest) {
      await onDisk(blobs, async () => {
        const isThere = (await blobSize(digest)) === BigInt((await file.stat()).size) // perhaps for a moment only
        if (!isThere) {
          await Promise.all([file.datasync(), file.chmod(0o444)])
          await rename(ingestPath(id), blobPath(digest))
        }
        await syncs(dirname(blobPath(digest)))
      })
    },
    async dropIngest(id) {
      const path = join(ingests, id)
      await rmdir(path).catch(() => rm(path, { recursive: true, force: true })) // after a commit it is empty
      opened.delete(id)
    },
    asidePath: (digest) => join(ingests, `${ASIDE}${digest.replace(':', '-')}`),
    ingests: async () => (await readdir(ingests)).filter((name) => !name.startsWith(ASIDE)),
    ingestFolder: (id) => join(ingests, id),
    isOpened: (id) => opened.has(id),
    async blobs() {
      const digests: Digest[] = []
      for (const algorithm of await readdir(blobs))
        for (const hex of (await ifThere(readdir(join(blobs, algorithm)))) ?? []) {
          const name = `${algorithm}:${hex}`
          if (isDigest(name)) digests.push(name)
        }
      return digests.sort()
    },
    async strays() {
      const found: string[] = []
      for (const algorithm of await readdir(blobs)) {
        const names = await ifThere(readdir(join(blobs, algorithm)))
        if (names === undefined) found.push(join(blobs, algorithm))
        else for (const name of names) if (!isDigest(`${algorithm}:${name}`)) found.push(join(blobs, algorithm, name))
      }
      return found.sort()
    },
    claim(digest) {
      claims.set(digest, (claims.get(digest) ?? 0) + 1)
      return {
        [Symbol.dispose]() {
          const left = (claims.get(digest) ?? 0) - 1
          if (left > 0) claims.set(digest, left)
          else claims.delete(digest)
        },
      }
    },
    isClaimed: (digest) => claims.has(digest),
    async sweep(known) {
      const stray = (await readdir(ingests)).filter((id) => !known.has(id))
      await Promise.all(stray.map((id) => rm(join(ingests, id), { recursive: true, force: true })))
      return stray.length
    },
  }
}

/**
 * Runs what writes below `folder`. A disk that is full or may not be written is the operator's to mend, so the fault
 * names the folder.
 *
 * @throws {Fault} `resource-exhausted` or `failed-precondition`
 */
export async function onDisk<T>(folder: string, write: () => Promise<T>): Promise<T> {
  try {
    return await write()
  } catch (cause) {
    const code = codeOf(cause)
    if (code === 'ENOSPC' || code === 'EDQUOT')
      throw new Fault('resource-exhausted', `Cannot write in "${folder}": the disk is full`, { cause })
    if (code === 'EROFS' || code === 'EACCES' || code === 'EPERM')
      throw new Fault('failed-precondition', `Cannot write in "${folder}": it is read-only`, { cause })
    throw cause
  }
}

/** Size of a file in bytes, undefined when there is none. */
async function sizeOf(path: string): Promise<bigint | undefined> {
  return (await ifThere(stat(path, { bigint: true })))?.size
}

/** Undefined for a file or folder that is not there. */
async function ifThere<T>(asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked
  } catch (error) {
    if (ABSENT.includes(codeOf(error))) return undefined
    throw error
  }
}

function makeFolders(paths: readonly string[]): void {
  for (const path of paths)
    try {
      mkdirSync(path, { recursive: true, mode: 0o700 })
    } catch (cause) {
      throw new Fault('failed-precondition', `Cannot make the folder "${path}": ${codeOf(cause)}`, { cause })
    }
}

/** One level and no more: a recursive mkdir of node's says ENOENT where the disk is read-only. */
async function makeFolder(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: 0o700 })
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') throw error
  }
}

/** Brings the names in a folder to disk. Those who ask while a sync runs share the next one: theirs may have come too late for it. */
function createFolderSyncs(): (path: string) => Promise<void> {
  const running = new Map<string, { readonly now: Promise<void>; next?: Promise<void> }>()

  function start(path: string): Promise<void> {
    const now = syncFolder(path)
    const entry = { now }
    running.set(path, entry)
    const over = (): void => {
      if (running.get(path) === entry) running.delete(path)
    }
    now.then(over, over)
    return now
  }

  return (path) => {
    const entry = running.get(path)
    if (!entry) return start(path)
    entry.next ??= entry.now.catch(() => undefined).then(() => start(path))
    return entry.next
  }
}

async function syncFolder(path: string): Promise<void> {
  await using folder = await open(path, 'r')
  await folder.sync()
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : String(error)
}
