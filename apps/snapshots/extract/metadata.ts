import { chmodSync, fchmodSync, fchownSync, lchownSync } from 'node:fs'
import { lsetxattr } from '@gantry/linux/file'
import { isSystemError } from '@gantry/linux/system'
import { OVERLAY_XATTRS } from './folders.ts'
import type { ByteString } from './tar-header.ts'
import { toPath } from './tree.ts'

const SPECIAL_BITS = 0o7000 // setuid, setgid, sticky: a change of owner clears the first two

/** Owner, attributes and mode of something that is no link. The order matters: chown takes setuid bits and capabilities away. */
export interface Ownership {
  readonly mode: number
  readonly uid: number
  readonly gid: number
  readonly xattrs: ReadonlyMap<string, Uint8Array>
}

/** Gives what is at `path` its owner, attributes and mode. */
export function own(path: ByteString, { mode, uid, gid, xattrs }: Ownership): void {
  lchownSync(toPath(path), uid, gid)
  chmodSync(toPath(path), mode)
  setXattrs(path, xattrs)
}

/** As `own` for a link: it has no mode, and chmod would follow it. */
export function ownLink(path: ByteString, { uid, gid, xattrs }: Omit<Ownership, 'mode'>): void {
  lchownSync(toPath(path), uid, gid)
  setXattrs(path, xattrs)
}

/** A file of ours whose content was just written. */
interface WrittenFile {
  readonly fd: number
  readonly path: ByteString
  /** Did the kernel give it to 0:0, with its mode? A chown that changes nothing still costs a tenth of the file. */
  readonly isPlain: boolean
}

/** As `own` for a file whose content was just written; that took setuid bits and capabilities away too. */
export function ownFile(file: WrittenFile, owner: Ownership): void {
  if (!file.isPlain || owner.uid !== 0 || owner.gid !== 0) fchownSync(file.fd, owner.uid, owner.gid)
  if (!file.isPlain || (owner.mode & SPECIAL_BITS) !== 0) fchmodSync(file.fd, owner.mode)
  setXattrs(file.path, owner.xattrs)
}

/**
 * What the file system or the kind of file does not support is left out, as containerd does. So are the overlay file
 * system's own attributes: in an upper folder they would redirect the mount.
 */
function setXattrs(path: ByteString, xattrs: ReadonlyMap<string, Uint8Array>): void {
  for (const [name, value] of xattrs) {
    if (name.startsWith(OVERLAY_XATTRS)) continue
    try {
      lsetxattr(toPath(path), Buffer.from(name, 'latin1').toString(), value)
    } catch (error) {
      const unsupported = isSystemError(error, 'ENOTSUP') || (name.startsWith('user.') && isSystemError(error, 'EPERM'))
      if (!unsupported) throw error
    }
  }
}
