import { mkdirSync, rmdirSync, unlinkSync } from 'node:fs'
import { lgetxattr, lsetxattr, lutimesNs, mknod } from '@gantry/linux/file'
import { isSystemError } from '@gantry/linux/system'
import { Fault } from '@gantry/model/fault'
import { createFolders, type Folders } from './folders.ts'
import type { Limits } from './limits.ts'
import type { Loose } from './loose.ts'
import { own } from './metadata.ts'
import type { ByteString, Entry } from './tar-header.ts'
import { join, namesIn, OPAQUE, removeTree, statOf, toPath } from './tree.ts'

const S_IFCHR = 0o020000
const IMPLIED_MODE = 0o755 // of a folder that neither an entry nor a layer below describes
const AS_ROOT = process.geteuid?.() === 0 && process.getegid?.() === 0
const YES = Buffer.from('y')
const DEFAULT_ACL = 'system.posix_acl_default'

/**
 * The folder a layer is laid out in, and what of it the layer brought. A whiteout hides what was there before, never what
 * its own layer brings, whichever comes first.
 */
export class LayerTree {
  readonly folders: Folders
  readonly #overlay: boolean
  readonly #limits: Limits
  #heldBytes = 0 // of the paths noted below
  /** Paths of this layer's entries. Undefined when the folder was empty: all in it is then the layer's, but what is noted below. */
  readonly #brought: Set<ByteString> | undefined
  readonly #copied = new Set<ByteString>() // what the layer needs from below
  readonly #marks = new Set<ByteString>() // whiteouts that nothing has replaced yet
  readonly #cleared = new Set<ByteString>() // folders in which nothing from before is left
  readonly #times = new Map<ByteString, Pick<Entry, 'atime' | 'mtime'>>() // of folders: they are set last
  readonly #makesPlain = new Map<ByteString, boolean>() // answers of makesPlain
  readonly #implied = new Set<ByteString>() // folders that no entry has described yet

  /**
   * @param overlay leave whiteouts as marks of the overlay file system; otherwise they delete, and that is all
   */
  constructor(overlay: boolean, limits: Limits) {
    this.#overlay = overlay
    this.#limits = limits
    this.#brought = namesIn('/').length === 0 ? undefined : new Set()
    this.folders = createFolders(
      (path) => this.#makeImplied(path),
      (path) => this.#marks.has(path),
    )
  }

  /** Makes an entry with `make`; what is in its way is removed first. */
  place<T>(path: ByteString, make: () => T): T {
    const made = this.#making(path, make)
    if (this.#brought) this.#hold(path)
    this.#brought?.add(path)
    return made
  }

  /** Makes something that the layer does not bring, but needs here from below. */
  copyUp(path: ByteString, make: () => void): void {
    this.#making(path, make)
    this.#hold(path)
    this.#copied.add(path)
  }

  /** Is a whiteout of this layer at `path`? */
  isMark(path: ByteString): boolean {
    return this.#marks.has(path)
  }

  /** Has this layer hidden what the layers below have at `path`? */
  isHidden(path: ByteString): boolean {
    for (let at = path; at !== ''; at = at.slice(0, at.lastIndexOf('/'))) if (this.#marks.has(at)) return true
    return this.#isCleared(path)
  }

  /**
   * Does a file made in this folder belong to 0:0 at first, with the mode that is asked for? One with the setgid bit hands
   * its group on, on some mounts all of them do; one with a default access list gives modes of its own.
   */
  makesPlain(folder: ByteString): boolean {
    const known = this.#makesPlain.get(folder)
    if (known !== undefined) return known
    const path = folder || '/'
    const makes = AS_ROOT && statOf(path)?.gid === 0 && lgetxattr(toPath(path), DEFAULT_ACL) === undefined
    this.#makesPlain.set(folder, makes)
    return makes
  }

  /** A folder that is there already keeps what is in it. */
  placeFolder(path: ByteString, entry: Entry): void {
    this.#hold(path)
    const replacesMark = this.#marks.has(path)
    if (!statOf(path)?.isDirectory()) this.place(path, () => mkdirSync(toPath(path), entry.mode))
    this.#brought?.add(path)
    this.#implied.delete(path)
    this.#makesPlain.delete(path)
    own(path, entry)
    if (replacesMark) this.#markOpaque(path)
    this.#times.set(path, { atime: entry.atime, mtime: entry.mtime }) // an entry may hold a MiB of attributes
  }

  /** `.wh.<name>`: takes away what was there before this layer. */
  hide(path: ByteString, mark: Entry): void {
    if (this.#marks.has(path)) return
    this.#hold(path)
    const kept = this.#isCleared(path) ? statOf(path) !== undefined : this.#prune(path)
    if (kept) this.#cleared.add(path)
    if (!this.#overlay) return
    if (!kept) {
      mknod(toPath(path), S_IFCHR, 0, 0)
      own(path, { mode: 0, uid: mark.uid, gid: mark.gid, xattrs: new Map() })
      this.#marks.add(path)
    } else if (statOf(path)?.isDirectory()) this.#markOpaque(path)
  }

  /** `.wh..wh..opq`: takes away all that was in the folder before this layer. */
  hideAll(folder: ByteString): void {
    if (!this.#isCleared(folder)) for (const name of namesIn(folder || '/')) this.#prune(join(folder, name))
    this.#cleared.add(folder)
    if (this.#overlay) this.#markOpaque(folder || '/')
  }

  /** Sets the times of folders, which every file made in them has changed, and tells what is left to do. */
  finish(): Pick<Loose, 'implied'> {
    for (const [path, { atime, mtime }] of this.#times)
      lutimesNs(toPath(path), atime !== undefined && atime > mtime ? atime : mtime, mtime)
    return { implied: [...this.#implied] }
  }

  /** Counts a path that is noted. @throws {Fault} `resource-exhausted` */
  #hold(path: ByteString): void {
    this.#heldBytes += path.length
    if (this.#heldBytes > this.#limits.heldBytes)
      throw new Fault(
        'resource-exhausted',
        `Cannot extract the layer: the paths of its folders and whiteouts take over ${this.#limits.heldBytes} bytes`,
      )
  }

  #making<T>(path: ByteString, make: () => T): T {
    try {
      return make()
    } catch (error) {
      if (!isSystemError(error, 'EEXIST')) throw error
      this.#discard(path)
      return make()
    }
  }

  #discard(path: ByteString): void {
    removeTree(path, (gone) => {
      this.#brought?.delete(gone)
      for (const noted of [this.#copied, this.#marks, this.#cleared, this.#times, this.#implied]) noted.delete(gone)
    })
    this.#makesPlain.clear()
    this.folders.forget()
  }

  /** A folder that no entry has described yet will take after the same folder below, unless this layer hides that. */
  #makeImplied(path: ByteString): void {
    this.#hold(path)
    const replacesMark = this.#marks.delete(path)
    if (replacesMark) unlinkSync(toPath(path))
    mkdirSync(toPath(path), IMPLIED_MODE)
    if (replacesMark) this.#markOpaque(path)
    else this.#implied.add(path)
  }

  /** Removes what this layer did not bring at and below `path`; answers whether anything is left there. */
  #prune(path: ByteString): boolean {
    if (this.#marks.has(path) || this.#cleared.has(path)) return true
    const stat = statOf(path)
    if (!stat) return false
    let kept = this.#brought ? this.#brought.has(path) : !this.#implied.has(path) && !this.#copied.has(path)
    if (stat.isDirectory()) for (const name of namesIn(path)) kept = this.#prune(join(path, name)) || kept
    if (kept) return true
    if (stat.isDirectory()) rmdirSync(toPath(path))
    else unlinkSync(toPath(path))
    this.#implied.delete(path)
    this.#makesPlain.clear()
    this.folders.forget()
    return false
  }

  /** Is nothing from before left at `path`, because this layer has hidden it or a folder above? */
  #isCleared(path: ByteString): boolean {
    for (let at = path; ; at = at.slice(0, at.lastIndexOf('/'))) {
      if (this.#cleared.has(at)) return true
      if (at === '') return false
    }
  }

  #markOpaque(path: ByteString): void {
    lsetxattr(toPath(path), OPAQUE, YES)
  }
}
