import { lstatSync, readdirSync, renameSync, rmdirSync, type Stats, unlinkSync } from 'node:fs'
import { lremovexattr } from '@gantry/linux/file'
import { isSystemError } from '@gantry/linux/system'
import type { ByteString } from './tar-header.ts'

/** Says that nothing of the layers below is seen in a folder. */
export const OPAQUE = 'trusted.overlay.opaque'

/** What a folder tree takes on disk. */
export interface Usage {
  /** Bytes of allocated blocks. */
  readonly size: bigint
  readonly inodes: bigint
}

const BLOCK_BYTES = 512n // the unit of st_blocks, whatever the file system's own blocks are
const LONG_PATH = 3000 // bytes: folders deeper than this are moved up before they are emptied

/** A path as `node:fs` takes it: names that are not ASCII go as bytes. */
export function toPath(path: ByteString): string | Buffer {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the whole of ASCII is meant
  return /^[\x00-\x7f]*$/.test(path) ? path : Buffer.from(path, 'latin1')
}

/** What is at `path` itself, link or not; undefined when nothing is. */
export function statOf(path: ByteString): Stats | undefined {
  return lstatSync(toPath(path), { throwIfNoEntry: false })
}

/** The names in a folder. */
export function namesIn(path: ByteString): ByteString[] {
  return readdirSync(toPath(path), { encoding: 'latin1' })
}

/** `path` and `name` joined; the root is ''. */
export function join(path: ByteString, name: ByteString): ByteString {
  return `${path}/${name}`
}

/** Removes `path` and all below it, following no link, and tells each path that went. Nothing there is well. */
export function removeTree(path: ByteString, gone: (path: ByteString) => void): void {
  if (!unlinkUnlessFolder(path)) {
    for (const name of namesIn(path)) removeTree(join(path, name), gone)
    rmdirSync(toPath(path))
  }
  gone(path)
}

/**
 * Empties the folder that is this thread's root, and takes the mark away that a layer may have put on it. A container may
 * have made trees too deep to name: their lower parts are moved up to the root first.
 */
export function emptyRoot(): void {
  let moved = 0
  const remove = (path: ByteString): void => {
    if (unlinkUnlessFolder(path)) return
    if (path.length > LONG_PATH) {
      while (statOf(`/.gantry-deep-${moved}`)) moved++
      renameSync(toPath(path), `/.gantry-deep-${moved}`)
      return
    }
    for (const name of namesIn(path)) remove(join(path, name))
    rmdirSync(toPath(path))
  }
  for (let names = namesIn('/'); names.length > 0; names = namesIn('/'))
    for (const name of names) remove(join('', name))
  lremovexattr('/', OPAQUE)
}

/**
 * Measures the folder that is this thread's root, itself included; a file with several names counts once.
 * @param check is called for every entry; it throws to stop
 */
export function usageOfRoot(check: () => void): Usage {
  const shared = new Set<string>()
  let blocks = 0
  let inodes = 0
  const visit = (path: ByteString): void => {
    check()
    const stat = statUnlessGone(path === '' ? '/' : path)
    if (!stat) return
    if (stat.nlink > 1 && !stat.isDirectory()) {
      const identity = `${stat.dev}:${stat.ino}`
      if (shared.has(identity)) return
      shared.add(identity)
    }
    blocks += stat.blocks
    inodes += 1
    if (stat.isDirectory()) for (const name of namesUnlessGone(path === '' ? '/' : path)) visit(join(path, name))
  }
  visit('')
  return { size: BigInt(blocks) * BLOCK_BYTES, inodes: BigInt(inodes) }
}

/** True when `path` is no folder (any more). */
function unlinkUnlessFolder(path: ByteString): boolean {
  try {
    unlinkSync(toPath(path))
    return true
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) return true
    if (isSystemError(error, 'EISDIR')) return false
    throw error
  }
}

/** A container may be at work in the tree: what goes meanwhile, or is too deep to name, is not counted. */
function statUnlessGone(path: ByteString): Stats | undefined {
  return unlessGone(() => statOf(path))
}

function namesUnlessGone(path: ByteString): ByteString[] {
  return unlessGone(() => namesIn(path)) ?? []
}

function unlessGone<T>(look: () => T): T | undefined {
  try {
    return look()
  } catch (error) {
    if (isSystemError(error, 'ENOENT', 'ENOTDIR', 'ENAMETOOLONG')) return undefined
    throw error
  }
}
