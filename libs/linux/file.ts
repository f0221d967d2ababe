import type { BigIntStats, Stats } from 'node:fs'
import { cString, declare, isSystemError, type Path } from './system.ts'

const S_IFMT = 0o170000
const S_IFIFO = 0o010000
const S_IFCHR = 0o020000
const AT_FDCWD = -100
const AT_SYMLINK_NOFOLLOW = 0x100
const SYNC_FILE_RANGE_WRITE = 2
const FALLOC_FL_KEEP_SIZE = 1
const NANOSECONDS = 1_000_000_000n
const MAX_LIST = 65_536 // bytes; the kernel's own bound for the names, and for the value, of extended attributes

const sysMknod = declare('int mknod(const void *path, unsigned int mode, uint64_t device)')
const sysLsetxattr = declare(
  'int lsetxattr(const void *path, const char *name, const void *value, size_t size, int flags)',
)
const sysLremovexattr = declare('int lremovexattr(const void *path, const char *name)')
const sysLgetxattr = declare('long lgetxattr(const void *path, const char *name, void *value, size_t size)')
const sysLlistxattr = declare('long llistxattr(const void *path, void *list, size_t size)')
const sysFgetxattr = declare('long fgetxattr(int fd, const char *name, void *value, size_t size)')
const sysFlistxattr = declare('long flistxattr(int fd, void *list, size_t size)')
const sysUtimensat = declare('int utimensat(int dir, const void *path, const void *times, int flags)')
const sysFutimens = declare('int futimens(int fd, const void *times)')
const sysSyncfs = declare('int syncfs(int fd)')
const fallocate = declare('int fallocate(int fd, int mode, int64_t offset, int64_t bytes)')
const syncFileRange = declare('int sync_file_range(int fd, int64_t offset, int64_t bytes, unsigned int flags)')

/**
 * Makes a FIFO. The mode is less the umask, as with every call here that takes one.
 * @throws {SystemError} `EEXIST`, `ENOENT`, ...
 */
export function mkfifo(path: Path, mode: number): void {
  sysMknod(path, cString(path), S_IFIFO | (mode & 0o7777), 0)
}

/**
 * Makes a device node or, by the type bits of `mode`, another special file. Without type bits it is a character device.
 * @throws {SystemError} `EEXIST`, `EPERM`, ...
 */
export function mknod(path: Path, mode: number, major: number, minor: number): void {
  const type = mode & S_IFMT || S_IFCHR
  sysMknod(path, cString(path), type | (mode & 0o7777), deviceNumber(major, minor))
}

/** Is this the overlay file system's mark for "deleted below": a character device 0:0? */
export function isCharDevice00(stat: Stats | BigIntStats): boolean {
  return stat.isCharacterDevice() && BigInt(stat.rdev) === 0n
}

/**
 * Sets an extended attribute of `path` itself, link or not.
 * @throws {SystemError} `ENOTSUP` when the file system or the kind of file has none of that name, `EPERM`, `ENOSPC`, ...
 */
export function lsetxattr(path: Path, name: string, value: Uint8Array): void {
  sysLsetxattr(path, cString(path), name, value, value.length, 0)
}

/** Takes an extended attribute away from `path` itself, link or not; one that is not set is well. */
export function lremovexattr(path: Path, name: string): void {
  try {
    sysLremovexattr(path, cString(path), name)
  } catch (error) {
    if (!isSystemError(error, 'ENODATA', 'ENOTSUP')) throw error
  }
}

/** The value of an extended attribute, or undefined when it is not set. A descriptor may stand for the path. */
export function lgetxattr(path: Path | number, name: string): Uint8Array | undefined {
  try {
    return measured((buffer) =>
      typeof path === 'number'
        ? sysFgetxattr(`fd ${path}`, path, name, buffer, buffer.length)
        : sysLgetxattr(path, cString(path), name, buffer, buffer.length),
    )
  } catch (error) {
    if (isSystemError(error, 'ENODATA', 'ENOTSUP')) return undefined
    throw error
  }
}

/** The names of the extended attributes of a path, or of a descriptor; none where the file system knows none. */
export function llistxattr(path: Path | number): string[] {
  try {
    const names = measured((buffer) =>
      typeof path === 'number'
        ? sysFlistxattr(`fd ${path}`, path, buffer, buffer.length)
        : sysLlistxattr(path, cString(path), buffer, buffer.length),
    )
    return Buffer.from(names)
      .toString()
      .split('\0')
      .filter((name) => name !== '')
  } catch (error) {
    if (isSystemError(error, 'ENOTSUP')) return []
    throw error
  }
}

/** Sets both times, in nanoseconds since 1970 (negative before), of `path` itself, link or not. */
export function lutimesNs(path: Path, atime: bigint, mtime: bigint): void {
  sysUtimensat(path, AT_FDCWD, cString(path), timespecs(atime, mtime), AT_SYMLINK_NOFOLLOW)
}

/** Sets both times, in nanoseconds since 1970, of an open file. */
export function futimesNs(fd: number, atime: bigint, mtime: bigint): void {
  sysFutimens(`fd ${fd}`, fd, timespecs(atime, mtime))
}

/** Writes everything of the file system that holds `fd` to its disk. It blocks: call it in a worker thread. */
export function syncfs(fd: number): void {
  sysSyncfs(`fd ${fd}`, fd)
}

/**
 * Keeps blocks of the disk for these bytes of a file, without making it longer: to write there cannot fail for want of room.
 * @throws {SystemError} `ENOSPC`, `EDQUOT`; `EOPNOTSUPP` where the file system cannot
 */
export function reserve(fd: number, offset: number, bytes: number): void {
  fallocate(`fd ${fd}`, fd, FALLOC_FL_KEEP_SIZE, offset, bytes)
}

/**
 * Begins to write these bytes of a file to its disk, without waiting for the end: a later sync finds less to do.
 * @throws {SystemError} `ESPIPE` for what is no file, `EIO`, `ENOSPC`, ... when earlier bytes could not be written
 */
export function startWriting(fd: number, offset: number, bytes: number): void {
  syncFileRange(`fd ${fd}`, fd, offset, bytes, SYNC_FILE_RANGE_WRITE)
}

/** The kernel's device number as glibc and musl spell it: the low bits of both first, the high bits above. */
export function deviceNumber(major: number, minor: number): bigint {
  const [a, b] = [BigInt(major), BigInt(minor)]
  return (b & 0xffn) | ((a & 0xfffn) << 8n) | ((b & ~0xffn) << 12n) | ((a & ~0xfffn) << 32n)
}

/** The two parts of what `stat` tells as a device: the reverse of `deviceNumber`. */
export function deviceParts(device: bigint): { readonly major: number; readonly minor: number } {
  const major = ((device >> 8n) & 0xfffn) | ((device >> 32n) & ~0xfffn)
  return { major: Number(major), minor: Number((device & 0xffn) | ((device >> 12n) & 0xffff_ff00n)) }
}

function measured(read: (buffer: Uint8Array) => number): Uint8Array {
  const small = new Uint8Array(256)
  try {
    return small.slice(0, read(small))
  } catch (error) {
    if (!isSystemError(error, 'ERANGE')) throw error
    const large = new Uint8Array(MAX_LIST)
    return large.slice(0, read(large))
  }
}

const words = new BigInt64Array(4) // used again by each call: a thread makes one at a time
const wordBytes = new Uint8Array(words.buffer)

function timespecs(atime: bigint, mtime: bigint): Uint8Array {
  for (const [index, time] of [atime, mtime].entries()) {
    const nanoseconds = ((time % NANOSECONDS) + NANOSECONDS) % NANOSECONDS
    words[2 * index] = (time - nanoseconds) / NANOSECONDS
    words[2 * index + 1] = nanoseconds
  }
  return wordBytes
}
