import { type BigIntStats, closeSync, constants, fstatSync, openSync, readdirSync, readSync, statfsSync } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import { deviceParts } from '@gantry/linux/file'
import { O_PATH, openIn } from '@gantry/linux/open-in'
import { readLink } from '@gantry/linux/read-link'
import { isSystemError } from '@gantry/linux/system'
import { Fault } from '@gantry/model/fault'
import {
  type ByteString,
  type CopyEntry,
  type CopyKind,
  type Ids,
  idInContainer,
  joined,
  toText,
} from './copy-entry.ts'

const CHUNK = 256 * 1024 // bytes read at once
const MAX_DEPTH = 256 // folders in folders; each is held open while it is read

/** File systems that the kernel makes up: /proc, /sys and the like are nothing to copy. By their numbers in linux/magic.h. */
const MADE_UP: ReadonlySet<number> = new Set([
  ...[0x9fa0, 0x6265_6572, 0x27_e0eb, 0x6367_7270, 0x1cd1, 0x1980_0202],
  ...[0x6462_6720, 0x7472_6163, 0xcafe_4a11, 0x7363_6673, 0xf97c_ff8c, 0x6e73_6673],
])

/** A tree to be copied. */
export interface SourceTree {
  /** A descriptor of its top (`O_PATH`), which stays the caller's. */
  readonly fd: number
  /** What the top is called; `''` for what is in a folder, without the folder itself. */
  readonly name: ByteString
  readonly ids: Ids
}

/**
 * What is in a tree, each folder before what is in it. Nothing is followed and nothing but files and folders is opened, whoever
 * changes the tree meanwhile; what goes away meanwhile is left out, as are sockets and what the kernel makes up.
 *
 * @throws {Fault} `resource-exhausted` for folders that lie too deep
 */
export async function* readTree({ fd, name, ids }: SourceTree, signal: AbortSignal): AsyncGenerator<CopyEntry> {
  const known = new Map<string, ByteString>() // files that have several names
  yield* entriesOf(fd, name, 0)

  async function* entriesOf(fd: number, path: ByteString, depth: number): AsyncGenerator<CopyEntry> {
    await setImmediate() // all else waits for nothing: who interrupts a tree without end would not be heard
    signal.throwIfAborted()
    const stat = fstatSync(fd, { bigint: true })
    const kind = kindOf(stat)
    if (kind === undefined) return
    const entry = entryOf(fd, { path, kind, stat }, ids)
    const inode = kind === 'file' && stat.nlink > 1n ? `${stat.dev} ${stat.ino}` : ''
    const first = known.get(inode)
    if (first !== undefined) yield { ...entry, kind: 'hard-link', link: first, size: 0 }
    else if (path !== '') yield entry
    if (inode !== '') known.set(inode, first ?? path)
    if (kind !== 'folder') return
    if (depth === MAX_DEPTH)
      throw new Fault('resource-exhausted', `Cannot copy ${toText(path)}: more than ${MAX_DEPTH} folders in each other`)
    for (const child of readdirSync(here(fd), { encoding: 'latin1' }).sort()) {
      const at = openChild(fd, child)
      if (at === undefined) continue
      try {
        if (fstatSync(at, { bigint: true }).dev === stat.dev || !isMadeUp(at))
          yield* entriesOf(at, joined(path, child), depth + 1)
      } finally {
        closeSync(at)
      }
    }
  }
}

function entryOf(
  fd: number,
  { path, kind, stat }: { path: ByteString; kind: CopyKind; stat: BigIntStats },
  ids: Ids,
): CopyEntry {
  const size = kind === 'file' ? Number(stat.size) : 0
  return {
    ...{ kind, path, size },
    link: kind === 'symlink' ? Buffer.from(readLink(fd)).toString('latin1') : '',
    mode: Number(stat.mode) & 0o7777,
    uid: idInContainer(ids.uids, Number(stat.uid)),
    gid: idInContainer(ids.gids, Number(stat.gid)),
    mtime: stat.mtimeNs,
    ...(kind === 'character' || kind === 'block' ? deviceParts(stat.rdev) : { major: 0, minor: 0 }),
    body: readFile(fd, size),
  }
}

/** As many bytes as the file had, whatever becomes of it. */
async function* readFile(path: number, size: number): AsyncGenerator<Uint8Array> {
  const fd = openSync(here(path), constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    for (let left = size; left > 0; ) {
      await setImmediate() // as above
      const chunk = Buffer.allocUnsafe(Math.min(left, CHUNK))
      const read = readSync(fd, chunk)
      if (read === 0) chunk.fill(0) // it was cut short meanwhile
      yield read === 0 ? chunk : chunk.subarray(0, read)
      left -= read || chunk.length
    }
  } finally {
    closeSync(fd)
  }
}

function openChild(folder: number, name: ByteString): number | undefined {
  try {
    return openIn(folder, Buffer.from(name, 'latin1'), O_PATH | constants.O_NOFOLLOW)
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) return undefined
    throw error
  }
}

export function isMadeUp(fd: number): boolean {
  return MADE_UP.has(statfsSync(here(fd)).type)
}

function kindOf(stat: BigIntStats): CopyKind | undefined {
  if (stat.isFile()) return 'file'
  if (stat.isDirectory()) return 'folder'
  if (stat.isSymbolicLink()) return 'symlink'
  if (stat.isFIFO()) return 'fifo'
  if (stat.isCharacterDevice()) return 'character'
  return stat.isBlockDevice() ? 'block' : undefined
}

/** What is opened by this path is what the descriptor is of, whatever has its name now. */
export function here(fd: number): string {
  return `/proc/self/fd/${fd}`
}
