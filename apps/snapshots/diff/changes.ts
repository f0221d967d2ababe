import { type BigIntStats, closeSync, constants, lstatSync, openSync, readlinkSync, readSync } from 'node:fs'
import { isCharDevice00, lgetxattr, llistxattr } from '@gantry/linux/file'
import { isSystemError } from '@gantry/linux/system'
import { Fault } from '@gantry/model/fault'
import { show } from '../extract/layer-path.ts'
import type { ByteString } from '../extract/tar-header.ts'
import { join, namesIn, toPath } from '../extract/tree.ts'

const CONTENT_BYTES = 256 * 1024 // of each of two files that are compared
const SECOND = 1_000_000_000n // nanoseconds

/** One step from the tree below to the tree above. Paths begin with `/`, seen from the roots of the trees. */
export type Change =
  /** Something of this name is there below, and no more above. */
  | { readonly kind: 'whiteout'; readonly path: ByteString }
  /** Nothing of what is in the folder below is there above. It comes after the folder, and before all in it. */
  | { readonly kind: 'opaque'; readonly path: ByteString }
  | Present

/** Something that is there above. */
export interface Present {
  readonly kind: 'present'
  readonly path: ByteString
  /** Where it is to be read. */
  readonly at: ByteString
  readonly stat: BigIntStats
  readonly xattrs: Xattrs
  /** False when the same is there below. */
  readonly isChanged: boolean
}

type Xattrs = ReadonlyMap<string, Uint8Array>

/**
 * Walks the upper folder of an overlay, which is this thread's root, and nothing below it. Names come sorted by their bytes.
 * @param marks how the attributes of this overlay begin: `trusted.overlay.` or `user.overlay.`
 * @throws {Fault} `failed-precondition` when the folder does not stand alone
 * @see https://docs.kernel.org/filesystems/overlayfs.html
 */
export function* upperChanges(marks: string): Generator<Change> {
  if (isOpaque(xattrsOf('/'), marks)) yield { kind: 'opaque', path: '' }
  yield* changesIn('', marks)
}

function* changesIn(folder: ByteString, marks: string): Generator<Change> {
  for (const name of namesOf(folder || '/')) {
    const path = join(folder, name)
    const stat = lookAt(path)
    if (!stat) continue
    if (isCharDevice00(stat)) {
      yield { kind: 'whiteout', path }
      continue
    }
    const xattrs = xattrsOf(path)
    if (pointsBelow(xattrs, marks))
      throw new Fault('failed-precondition', `Cannot pack ${show(path)}: what it is stands in a layer below`)
    yield { kind: 'present', path, at: path, stat, xattrs, isChanged: true }
    if (!stat.isDirectory()) continue
    if (isOpaque(xattrs, marks)) yield { kind: 'opaque', path }
    yield* changesIn(path, marks)
  }
}

/** Does the upper folder tell all there is to know? Otherwise both trees have to be compared. */
export function standsAlone(marks: string): boolean {
  const below = (folder: ByteString): boolean =>
    namesOf(folder || '/').some((name) => {
      const path = join(folder, name)
      const stat = lookAt(path)
      if (!stat || isCharDevice00(stat)) return false
      return pointsBelow(xattrsOf(path), marks) || (stat.isDirectory() && below(path))
    })
  return !below('')
}

/** So does a folder that was moved, a file that has only its metadata here, a folder with whiteouts of the newer form. */
function pointsBelow(xattrs: Xattrs, marks: string): boolean {
  return (
    xattrs.has(`${marks}redirect`) || xattrs.has(`${marks}metacopy`) || startsWith(xattrs.get(`${marks}opaque`), 'x')
  )
}

function isOpaque(xattrs: Xattrs, marks: string): boolean {
  return startsWith(xattrs.get(`${marks}opaque`), 'y')
}

function startsWith(value: Uint8Array | undefined, letter: string): boolean {
  return value?.[0] === letter.charCodeAt(0)
}

/** Walks both trees, `lower` and `upper`, and compares. Names come sorted by their bytes. */
export function* treeChanges(lower: ByteString, upper: ByteString): Generator<Change> {
  yield* compareFolder('', { lower, upper, isBelow: true })
}

interface Pair {
  readonly lower: ByteString
  readonly upper: ByteString
  /** Is the folder there below? */
  readonly isBelow: boolean
}

function* compareFolder(folder: ByteString, { lower, upper, isBelow }: Pair): Generator<Change> {
  const before = isBelow ? namesOf(lower + folder) : []
  for (const name of [...new Set([...namesOf(upper + folder), ...before])].sort()) {
    const path = join(folder, name)
    const old = isBelow ? lookAt(lower + path) : undefined
    const stat = lookAt(upper + path)
    if (!stat) {
      if (old) yield { kind: 'whiteout', path }
      continue
    }
    const [from, at] = [lower + path, upper + path]
    const xattrs = xattrsOf(at)
    const isChanged = !old || !isSame({ at: from, stat: old, xattrs: xattrsOf(from) }, { at, stat, xattrs })
    yield { kind: 'present', path, at, stat, xattrs, isChanged }
    if (stat.isDirectory()) yield* compareFolder(path, { lower, upper, isBelow: old?.isDirectory() ?? false })
  }
}

type Seen = Pick<Present, 'at' | 'stat' | 'xattrs'>

/** A time without nanoseconds may come from an archive that had none: then only the content tells. */
function isSame(old: Seen, now: Seen): boolean {
  const same = (['mode', 'uid', 'gid', 'rdev', 'mtimeNs'] as const).every(
    (field) => old.stat[field] === now.stat[field],
  )
  if (!same || !haveSameXattrs(old.xattrs, now.xattrs)) return false
  if (now.stat.isSymbolicLink()) return linkAt(old.at) === linkAt(now.at)
  if (!now.stat.isFile()) return true
  if (old.stat.size !== now.stat.size) return false
  return now.stat.mtimeNs % SECOND !== 0n || haveSameContent(old.at, now.at)
}

function haveSameXattrs(old: Xattrs, now: Xattrs): boolean {
  if (old.size !== now.size) return false
  return [...now].every(([name, value]) => Buffer.from(value).equals(old.get(name) ?? new Uint8Array([0, ...value])))
}

function haveSameContent(old: ByteString, now: ByteString): boolean {
  using files = new DisposableStack()
  const open = (path: ByteString): number => {
    const fd = openSync(toPath(path), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    files.defer(() => closeSync(fd))
    return fd
  }
  const [a, b] = [open(old), open(now)]
  const [pieceA, pieceB] = [Buffer.alloc(CONTENT_BYTES), Buffer.alloc(CONTENT_BYTES)]
  for (;;) {
    const [lengthA, lengthB] = [readSync(a, pieceA), readSync(b, pieceB)]
    if (!pieceA.subarray(0, lengthA).equals(pieceB.subarray(0, lengthB))) return false
    if (lengthA === 0) return true
  }
}

/** A container may be at work in the tree: what goes meanwhile is not there. */
function lookAt(path: ByteString): BigIntStats | undefined {
  return lstatSync(toPath(path), { bigint: true, throwIfNoEntry: false })
}

function namesOf(folder: ByteString): ByteString[] {
  return unlessGone(() => namesIn(folder).sort()) ?? []
}

function xattrsOf(path: ByteString): Xattrs {
  const xattrs = new Map<string, Uint8Array>()
  for (const name of unlessGone(() => llistxattr(toPath(path))) ?? []) {
    const value = unlessGone(() => lgetxattr(toPath(path), name))
    if (value) xattrs.set(name, value)
  }
  return xattrs
}

/** Where a link leads; undefined when it is none any more. */
export function linkAt(path: ByteString): ByteString | undefined {
  return unlessGone(() => readlinkSync(toPath(path), { encoding: 'latin1' }))
}

function unlessGone<T>(look: () => T): T | undefined {
  try {
    return look()
  } catch (error) {
    if (isSystemError(error, 'ENOENT', 'ENOTDIR', 'EINVAL')) return undefined
    throw error
  }
}
