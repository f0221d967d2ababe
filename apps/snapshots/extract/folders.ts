import { closeSync, constants, fstatSync, readlinkSync } from 'node:fs'
import { lgetxattr, llistxattr } from '@gantry/linux/file'
import { openIn } from '@gantry/linux/open-in'
import { isSystemError } from '@gantry/linux/system'
import { Fault } from '@gantry/model/fault'
import { show } from './layer-path.ts'
import type { ByteString } from './tar-header.ts'
import { join, OPAQUE, statOf, toPath } from './tree.ts'

const MAX_STEPS = 4096 // components and links on the way to one folder
const MAX_KNOWN = 10_000 // spellings of folders whose place is remembered
export const OVERLAY_XATTRS = 'trusted.overlay.'

/** What a folder that no entry describes takes from the layers below. */
export interface Implied {
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly atime: bigint
  readonly mtime: bigint
  readonly xattrs: ReadonlyMap<string, Uint8Array>
}

/** Finds the real place of folders inside the jail. */
export interface Folders {
  /**
   * The path of a folder without links in it; what is missing is made. The root is ''.
   * @throws {Fault} `invalid-argument` when something on the way is no folder, or its links have no end
   */
  ensure(path: readonly ByteString[]): ByteString
  /** As `ensure`, but nothing is made: undefined when it is missing. */
  find(path: readonly ByteString[]): ByteString | undefined
  /** Forgets what was found: to be called when a folder or a link was taken away. */
  forget(): void
}

/**
 * @param make makes a missing folder at a path without links, in place of a whiteout of this layer too
 * @param hides is this the path of a whiteout that this layer made?
 */
export function createFolders(make: (path: ByteString) => void, hides: (path: ByteString) => boolean): Folders {
  const known = new Map<string, ByteString>()

  function walk(path: readonly ByteString[], missing: 'make' | 'stop'): ByteString | undefined {
    const rest = [...path]
    let at: ByteString = ''
    for (let steps = 0, name = rest.shift(); name !== undefined; name = rest.shift()) {
      if (++steps > MAX_STEPS) throw noFolder(path, 'its links have no end')
      if (name === '' || name === '.') continue
      if (name === '..') {
        at = at.slice(0, Math.max(at.lastIndexOf('/'), 0))
        continue
      }
      const next = join(at, name)
      const stat = statOf(next)
      if (stat?.isSymbolicLink()) {
        const target = readlinkSync(toPath(next), { encoding: 'latin1' })
        if (target.startsWith('/')) at = ''
        rest.unshift(...target.split('/'))
        continue
      }
      if (stat && !stat.isDirectory() && !hides(next)) throw noFolder(path, 'something on the way is no folder')
      if (!stat?.isDirectory()) {
        if (missing === 'stop') return undefined
        make(next)
      }
      at = next
    }
    return at
  }

  return {
    ensure(path) {
      const key = path.join('/')
      const found = known.get(key) ?? walk(path, 'make') ?? ''
      if (known.size >= MAX_KNOWN) known.clear()
      known.set(key, found)
      return found
    },
    find: (path) => known.get(path.join('/')) ?? walk(path, 'stop'),
    forget: () => known.clear(),
  }
}

/**
 * What the nearest of the layers below says about a folder. `lowers` are descriptors of their roots, nearest first, opened
 * outside the jail; links in them stay inside them.
 */
export function impliedBy(lowers: readonly number[], path: ByteString): Implied | undefined {
  for (const lower of lowers) {
    const fd = openFolder(lower, path)
    if (fd === 'replaced') return undefined
    if (fd === undefined) {
      if (hides(lower, path)) return undefined
      continue
    }
    try {
      const stat = fstatSync(fd, { bigint: true })
      return {
        mode: Number(stat.mode) & 0o7777,
        uid: Number(stat.uid),
        gid: Number(stat.gid),
        atime: stat.atimeNs,
        mtime: stat.mtimeNs,
        xattrs: xattrsOf(fd),
      }
    } finally {
      closeSync(fd)
    }
  }
  return undefined
}

/** Is a folder above `path` opaque in this layer, so that those below it do not count? */
function hides(lower: number, path: ByteString): boolean {
  for (let at = path.slice(0, path.lastIndexOf('/')); ; at = at.slice(0, at.lastIndexOf('/'))) {
    const fd = openFolder(lower, at || '/')
    if (typeof fd === 'number') {
      try {
        if (lgetxattr(fd, OPAQUE) !== undefined) return true
      } finally {
        closeSync(fd)
      }
    }
    if (at === '') return false
  }
}

function openFolder(lower: number, path: ByteString): number | 'replaced' | undefined {
  try {
    const flags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NONBLOCK
    return openIn(lower, Buffer.from(path, 'latin1'), flags)
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) return undefined
    if (isSystemError(error, 'ENOTDIR', 'ELOOP')) return 'replaced'
    throw error
  }
}

/** The attributes of an open file, but for those of the overlay. */
export function xattrsOf(fd: number): ReadonlyMap<string, Uint8Array> {
  const xattrs = new Map<string, Uint8Array>()
  for (const name of llistxattr(fd)) {
    const value = name.startsWith(OVERLAY_XATTRS) ? undefined : lgetxattr(fd, name)
    if (value) xattrs.set(name, value)
  }
  return xattrs
}

function noFolder(path: readonly ByteString[], state: string): Fault {
  return new Fault('invalid-argument', `Cannot extract into ${show(path.join('/'))}: ${state}`)
}
