import {
  type BigIntStats,
  chmodSync,
  closeSync,
  constants,
  copyFileSync,
  ftruncateSync,
  lchownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readlinkSync,
  readSync,
  symlinkSync,
  writeSync,
} from 'node:fs'
import { deviceParts, lgetxattr, llistxattr, lsetxattr, lutimesNs, mknod } from '@gantry/linux/file'
import { dataRanges } from '@gantry/linux/holes'
import { isSystemError } from '@gantry/linux/system'
import type { ByteString } from '../extract/tar-header.ts'
import { join, namesIn, toPath } from '../extract/tree.ts'

const { COPYFILE_EXCL, COPYFILE_FICLONE, COPYFILE_FICLONE_FORCE } = constants
const BLOCK_BYTES = 512n // the unit of st_blocks
const CHUNK = 1024 * 1024 // bytes

/**
 * Copies the tree in the folder `from` into the folder `to`, which is there and empty, with everything that belongs to a
 * file: owner, mode, extended attributes, times to the nanosecond, holes, names that are links to one file. Follows no link.
 * Files share their bytes where the file system can. Both are paths inside this thread's jail.
 *
 * @param check is called for every entry; it throws to stop
 */
export function copyTree(from: ByteString, to: ByteString, check: () => void): void {
  const seen = new Map<string, ByteString>() // inodes with more names than one, and the first copy
  const copy = (source: ByteString, target: ByteString): void => {
    check()
    const stat = lstatSync(toPath(source), { bigint: true })
    if (stat.isDirectory()) {
      if (target !== to) mkdirSync(toPath(target), 0o700)
      for (const name of namesIn(source)) copy(join(source, name), join(target, name))
      copyMetadata(source, target, stat)
      return
    }
    const identity = `${stat.dev}:${stat.ino}`
    const first = stat.nlink > 1n ? seen.get(identity) : undefined
    if (first !== undefined) {
      linkSync(toPath(first), toPath(target))
      return
    }
    if (stat.nlink > 1n) seen.set(identity, target)
    if (stat.isSymbolicLink()) symlinkSync(readlinkSync(toPath(source), 'buffer'), toPath(target))
    else if (stat.isFile()) copyBytes(source, target, stat)
    else makeSpecial(target, stat)
    copyMetadata(source, target, stat)
  }
  copy(from, to)
}

function copyBytes(source: ByteString, target: ByteString, { size, blocks }: BigIntStats): void {
  const [from, to] = [toPath(source), toPath(target)]
  if (blocks * BLOCK_BYTES >= size) {
    copyFileSync(from, to, COPYFILE_EXCL | COPYFILE_FICLONE)
    return
  }
  try {
    copyFileSync(from, to, COPYFILE_EXCL | COPYFILE_FICLONE_FORCE)
  } catch (error) {
    if (!isSystemError(error, 'ENOTSUP', 'EOPNOTSUPP', 'ENOTTY', 'EINVAL', 'EXDEV', 'ENOSYS')) throw error
    copyData(from, to, Number(size))
  }
}

/** Copies what is not a hole. */
function copyData(from: string | Buffer, to: string | Buffer, size: number): void {
  using files = new DisposableStack()
  const input = files.adopt(openSync(from, 'r'), closeSync)
  const output = files.adopt(openSync(to, 'w', 0o600), closeSync)
  const buffer = Buffer.allocUnsafe(CHUNK)
  ftruncateSync(output, size)
  for (const { start, end } of dataRanges(input))
    for (let at = start; at < end; ) {
      const length = readSync(input, buffer, 0, Math.min(CHUNK, end - at), at)
      if (length === 0) break
      writeSync(output, buffer, 0, length, at)
      at += length
    }
}

function makeSpecial(target: ByteString, { mode, rdev }: BigIntStats): void {
  const { major, minor } = deviceParts(rdev)
  mknod(toPath(target), Number(mode), major, minor)
}

/** Owner first: a new owner takes away setuid and capabilities. Times last. */
function copyMetadata(source: ByteString, target: ByteString, stat: BigIntStats): void {
  const [from, to] = [toPath(source), toPath(target)]
  lchownSync(to, Number(stat.uid), Number(stat.gid))
  if (!stat.isSymbolicLink()) chmodSync(to, Number(stat.mode & 0o7777n))
  for (const name of llistxattr(from)) {
    const value = lgetxattr(from, name)
    if (value) lsetxattr(to, name, value)
  }
  lutimesNs(to, stat.atimeNs, stat.mtimeNs)
}
