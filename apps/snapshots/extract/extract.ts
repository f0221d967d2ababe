import { closeSync, constants, ftruncateSync, linkSync, openSync, symlinkSync, writeSync } from 'node:fs'
import { futimesNs, lutimesNs, mkfifo, mknod, startWriting } from '@gantry/linux/file'
import { isSystemError } from '@gantry/linux/system'
import { Fault, type FaultCode } from '@gantry/model/fault'
import { copyUp, openBelow } from './copy-up.ts'
import type { TarHandler } from './entry-reader.ts'
import { parsePath, parseTarget, show } from './layer-path.ts'
import { LayerTree } from './layer-tree.ts'
import type { Limits } from './limits.ts'
import type { Loose } from './loose.ts'
import { own, ownFile, ownLink } from './metadata.ts'
import type { ByteString, Entry } from './tar-header.ts'
import { join, statOf, toPath } from './tree.ts'

const S_IFCHR = 0o020000
const S_IFBLK = 0o060000
const PIECE_BYTES = 8 * 1024 * 1024 // of a file, on the way to the disk while the next ones are laid out
const NEW_FILE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW

const CODES: Readonly<Record<string, FaultCode>> = {
  ENOSPC: 'resource-exhausted',
  EDQUOT: 'resource-exhausted',
  ENAMETOOLONG: 'invalid-argument',
  ELOOP: 'invalid-argument',
  ENOTDIR: 'invalid-argument',
  EINVAL: 'invalid-argument',
  EFBIG: 'invalid-argument',
  EMLINK: 'invalid-argument',
}

export interface Layout {
  readonly overlay: boolean
  readonly limits: Limits
  /** Descriptors of the roots of the layers below, nearest first; `later` when they are not there yet. */
  readonly lowers: readonly number[] | 'later'
}

/** Disposing closes the file that was being written. */
export interface Extraction extends TarHandler, Disposable {
  /** After the last entry: sets the times of the folders, and tells what the layers below have to settle. */
  finish(): Loose
}

interface OpenFile {
  readonly entry: Entry
  readonly path: ByteString
  readonly fd: number
  readonly isPlain: boolean
}

/**
 * Lays the entries of a layer out below `/`: the thread that calls is jailed in the layer's folder, so no link leads further.
 * Every failure of an entry is a `Fault` that names it.
 */
export function createExtraction({ overlay, limits, lowers }: Layout): Extraction {
  const tree = new LayerTree(overlay, limits)
  let needsBelow = false // nothing is laid out any more
  let file: OpenFile | undefined // the one whose content comes
  let end = 0 // of what was written to it
  let started = 0 // what lies before is on its way to the disk

  return {
    entry(entry) {
      if (needsBelow) return
      naming(entry, () => {
        const target = parseTarget(entry.name, limits)
        if (target.kind === 'root' || target.kind === 'ignored') return
        const folder = tree.folders.ensure(target.folder)
        if (target.kind === 'opaque') return tree.hideAll(folder)
        const path = join(folder, target.base)
        if (target.kind === 'whiteout') return tree.hide(path, entry)
        if (entry.type === 'file')
          file = { entry, path, fd: openNew(tree, path, entry), isPlain: tree.makesPlain(folder) }
        else if (entry.type === 'hard-link') needsBelow = !placeLink(tree, path, { entry, limits, lowers })
        else if (entry.type === 'folder') tree.placeFolder(path, entry)
        else placeOther(tree, path, entry)
      })
    },
    data(bytes, position) {
      const { fd, entry } = file ?? {}
      if (fd === undefined || !entry) return
      naming(entry, () => {
        for (let written = 0; written < bytes.length; )
          written += writeSync(fd, bytes, written, bytes.length - written, position + written)
        end = position + bytes.length
        if (end - started < PIECE_BYTES) return
        startWriting(fd, started, end - started)
        started = end
      })
    },
    end() {
      const written = file
      file = undefined
      if (written) naming(written.entry, () => finishFile(written, end))
      end = 0
      started = 0
    },
    finish: () => ({ ...tree.finish(), needsBelow }),
    [Symbol.dispose]() {
      if (file) closeSync(file.fd)
      file = undefined
    },
  }
}

function openNew(tree: LayerTree, path: ByteString, { mode }: Entry): number {
  return tree.place(path, () => openSync(toPath(path), NEW_FILE, mode))
}

/** @param end of what was written; behind it may be a hole */
function finishFile({ entry, ...file }: OpenFile, end: number): void {
  try {
    if (end < entry.size) ftruncateSync(file.fd, entry.size)
    ownFile(file, entry)
    futimesNs(file.fd, accessTime(entry), entry.mtime)
  } finally {
    closeSync(file.fd)
  }
}

/** An entry that is another name of a file. */
interface Link {
  readonly entry: Entry
  readonly limits: Limits
  readonly lowers: Layout['lowers']
}

/**
 * The file has its metadata from its own entry: nothing is changed through the second name (CVE-2021-32760).
 * @returns false when only the layers below, which are not there yet, may have it
 */
function placeLink(tree: LayerTree, path: ByteString, { entry, limits, lowers }: Link): boolean {
  const target = parsePath(entry.linkName, limits)
  const base = target.at(-1)
  if (base === undefined) throw unlinkable(entry, 'is a folder')
  const folder = tree.folders.find(target.slice(0, -1))
  let from = folder === undefined ? undefined : join(folder, base)
  if (from === undefined || !statOf(from) || tree.isMark(from)) {
    if (lowers === 'later') return false
    from = bringUp(tree, target, lowers)
    if (from === undefined) throw unlinkable(entry, 'is not there')
  }
  if (from === path) throw unlinkable(entry, 'is itself')
  if (path.startsWith(`${from}/`) || statOf(from)?.isDirectory()) throw unlinkable(entry, 'is a folder')
  const source = from
  tree.place(path, () => linkSync(toPath(source), toPath(path)))
  return true
}

/** Copies a file of the layers below to where it is there. */
function bringUp(tree: LayerTree, target: readonly ByteString[], lowers: readonly number[]): ByteString | undefined {
  if (tree.isHidden(`/${target.join('/')}`)) return undefined
  const fd = openBelow(lowers, target)
  if (fd === undefined) return undefined
  try {
    const path = join(tree.folders.ensure(target.slice(0, -1)), target.at(-1) ?? '')
    tree.copyUp(path, () => copyUp(fd, path))
    return path
  } finally {
    closeSync(fd)
  }
}

function placeOther(tree: LayerTree, path: ByteString, entry: Entry): void {
  if (entry.type === 'symlink') {
    if (entry.linkName.includes('\0') || entry.linkName === '')
      throw new Fault('invalid-argument', `Cannot extract ${show(entry.name)}: it links to no name`)
    tree.place(path, () => symlinkSync(toPath(entry.linkName), toPath(path)))
    ownLink(path, entry)
  } else {
    tree.place(path, () => {
      if (entry.type === 'fifo') return mkfifo(toPath(path), entry.mode)
      const type = entry.type === 'character' ? S_IFCHR : S_IFBLK
      mknod(toPath(path), type | entry.mode, entry.major, entry.minor)
    })
    own(path, entry)
  }
  lutimesNs(toPath(path), accessTime(entry), entry.mtime)
}

/** An access time older than the change is of no use to anybody. */
function accessTime({ atime, mtime }: Entry): bigint {
  return atime !== undefined && atime > mtime ? atime : mtime
}

function unlinkable(entry: Entry, state: string): Fault {
  return new Fault(
    'failed-precondition',
    `Cannot extract ${show(entry.name)}: ${show(entry.linkName)}, which it links to, ${state}`,
  )
}

/** Runs one step for an entry; a system call that fails becomes a fault that says for which. */
function naming(entry: Entry, step: () => void): void {
  try {
    step()
  } catch (error) {
    if (!isSystemError(error)) throw error
    const code = CODES[error.code] ?? 'failed-precondition'
    throw new Fault(code, `Cannot extract ${show(entry.name)}: ${error.message}`, { cause: error })
  }
}
