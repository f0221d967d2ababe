import { deviceParts } from '@gantry/linux/file'
import { Fault } from '@gantry/model/fault'
import { OPAQUE, show, WHITEOUT } from '../extract/layer-path.ts'
import type { ByteString, Entry } from '../extract/tar-header.ts'
import { type Archive, createArchive, type Packed } from './archive-writer.ts'
import { type Change, linkAt, type Present, treeChanges, upperChanges } from './changes.ts'

/** Which trees are packed, seen from this thread's root. */
export type Trees =
  /** The root is the upper folder of an overlay; its attributes begin with `marks`. */
  | { readonly kind: 'upper'; readonly marks: string }
  /** The root has two folders, `lower` and `upper`. */
  | { readonly kind: 'both' }

export interface Packing {
  readonly trees: Trees
  /** Nanoseconds since 1970: later times become this one. */
  readonly latest: bigint | undefined
  /** A descriptor to write to. */
  readonly output: number
}

/**
 * Writes what has changed as a plain archive: sorted by name, and the same bytes for the same trees.
 *
 * A file that changes meanwhile is cut, or filled with zeros, to the size it had when its turn came; sockets are left out.
 * Files with holes are written in full: every reader understands that.
 * @param check is called every few hundred kilobytes and every entry; it throws to stop
 * @throws {Fault} `failed-precondition` for a file whose name would hide another, and for an upper folder that does not
 *   stand alone
 */
export function pack({ trees, latest, output }: Packing, check: () => void): Packed {
  const archive = createArchive(output, check)
  const writer = createChangeWriter(archive, latest)
  for (const change of trees.kind === 'upper' ? upperChanges(trees.marks) : treeChanges('/lower', '/upper'))
    writer.add(change)
  return archive.finish()
}

/** Turns changes into entries. Folders above a change are entries too, so that a reader has their owners and modes. */
function createChangeWriter(archive: Archive, latest: bigint | undefined) {
  const sources = new Map<string, ByteString>() // the first written name of a file with several
  const waiting = new Map<string, Present[]>() // unchanged names, until another name of the file turns out to be changed
  const unwritten: Present[] = [] // unchanged folders above the change that comes next, outer ones first

  function add(change: Change): void {
    if (change.kind === 'whiteout') addMark(change.path, (base) => `${WHITEOUT}${base}`)
    else if (change.kind === 'opaque') addMark(`${change.path}/`, () => OPAQUE)
    else if (change.stat.isDirectory()) addFolder(change)
    else if (change.stat.nlink > 1n) addShared(change)
    else if (change.isChanged) write(change)
  }

  function addMark(path: ByteString, name: (base: ByteString) => ByteString): void {
    addFoldersAbove(path)
    const slash = path.lastIndexOf('/') + 1
    archive.entry({ ...MARK, name: path.slice(1, slash) + name(path.slice(slash)) })
  }

  function addFolder(folder: Present): void {
    if (folder.isChanged) write(folder)
    else {
      dropUnless(folder.path)
      unwritten.push(folder)
    }
  }

  function addShared(file: Present): void {
    const identity = `${file.stat.dev}:${file.stat.ino}`
    const source = sources.get(identity)
    if (source !== undefined) write(file, source)
    else if (!file.isChanged) waiting.set(identity, [...(waiting.get(identity) ?? []), file])
    else if (write(file)) {
      sources.set(identity, file.path)
      for (const other of waiting.get(identity) ?? []) write(other, file.path)
    }
  }

  /** @returns whether it is in the archive now */
  function write(present: Present, linkTo?: ByteString): boolean {
    refuseMarks(present.path)
    addFoldersAbove(present.path)
    const entry = entryOf(present, latest)
    if (!entry) return false
    if (linkTo !== undefined)
      archive.entry({ ...entry, type: 'hard-link', linkName: linkTo.slice(1), size: 0, xattrs: new Map() })
    else if (entry.type === 'file') return archive.file(entry, present.at)
    else archive.entry(entry)
    return true
  }

  function addFoldersAbove(path: ByteString): void {
    dropUnless(path)
    for (const folder of unwritten.splice(0)) {
      const entry = entryOf(folder, latest)
      if (entry) archive.entry(entry)
    }
  }

  /** Forgets the folders that `path` does not lie in. */
  function dropUnless(path: ByteString): void {
    while (unwritten.length > 0 && !path.startsWith(`${unwritten.at(-1)?.path}/`)) unwritten.pop()
  }

  return { add }
}

/** Such as a whiteout has, everywhere. */
const MARK: Omit<Entry, 'name'> = {
  type: 'file',
  linkName: '',
  mode: 0,
  uid: 0,
  gid: 0,
  size: 0,
  mtime: 0n,
  atime: undefined,
  major: 0,
  minor: 0,
  xattrs: new Map(),
}

function refuseMarks(path: ByteString): void {
  const base = path.slice(path.lastIndexOf('/') + 1)
  if (base.startsWith(WHITEOUT))
    throw new Fault('failed-precondition', `Cannot pack ${show(path)}: in a layer this name is a mark`)
}

/** Undefined for what no archive can hold, and for what is gone meanwhile. */
function entryOf({ path, at, stat, xattrs }: Present, latest: bigint | undefined): Entry | undefined {
  const type = typeOf(stat)
  if (!type) return undefined
  const linkName = type === 'symlink' ? linkAt(at) : ''
  if (linkName === undefined) return undefined
  const device = type === 'character' || type === 'block' ? stat.rdev : 0n
  return {
    type,
    name: path.slice(1),
    linkName,
    mode: Number(stat.mode) & 0o7777,
    uid: Number(stat.uid),
    gid: Number(stat.gid),
    size: type === 'file' ? Number(stat.size) : 0,
    mtime: latest !== undefined && stat.mtimeNs > latest ? latest : stat.mtimeNs,
    atime: undefined,
    ...deviceParts(device),
    xattrs: new Map([...xattrs].filter(([name]) => isPacked(name))),
  }
}

function typeOf(stat: Present['stat']): Entry['type'] | undefined {
  if (stat.isFile()) return 'file'
  if (stat.isDirectory()) return 'folder'
  if (stat.isSymbolicLink()) return 'symlink'
  if (stat.isFIFO()) return 'fifo'
  if (stat.isCharacterDevice()) return 'character'
  return stat.isBlockDevice() ? 'block' : undefined
}

/** What belongs to the file, not to this host's overlay or security modules. */
function isPacked(xattr: string): boolean {
  if (xattr.startsWith('trusted.overlay.') || xattr.startsWith('user.overlay.')) return false
  if (xattr === 'security.capability' || xattr.startsWith('system.posix_acl_')) return true
  return xattr.startsWith('user.') || xattr.startsWith('trusted.')
}
