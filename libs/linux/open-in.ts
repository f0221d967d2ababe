import { closeSync, constants, openSync } from 'node:fs'
import { cString, declare, isSystemError, type Path } from './system.ts'

export const O_PATH = 0o10000000
const O_CLOEXEC = 0o2000000
const SYS_openat2 = 437 // the same number on every architecture
const RESOLVE_NO_MAGICLINKS = 0x02
const RESOLVE_IN_ROOT = 0x10
const RACES = 64 // the kernel answers EAGAIN when a rename elsewhere makes `..` doubtful

const openat2 = declare('long syscall(long number, int dir, const void *path, const void *how, size_t size)')

/**
 * Opens `path` as if `root` were the root of the file system: absolute links and `..` stay inside, whoever renames what
 * meanwhile. `flags` are those of `fs.constants`; close-on-exec is added.
 * @param root a descriptor of the folder, or its path
 * @returns a descriptor: close it with `closeSync`
 * @throws {SystemError} `ENOENT`, `ENOTDIR`, `ELOOP`, ... from openat2(2)
 */
export function openIn(root: number | string, path: Path, flags: number, mode = 0): number {
  if (typeof root === 'number') return openAt(root, path, flags, mode)
  const fd = openSync(root, O_PATH | constants.O_DIRECTORY)
  try {
    return openAt(fd, path, flags, mode)
  } finally {
    closeSync(fd)
  }
}

function openAt(root: number, path: Path, flags: number, mode: number): number {
  const how = new BigUint64Array([
    BigInt(flags | O_CLOEXEC),
    BigInt(mode),
    BigInt(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS),
  ])
  const bytes = new Uint8Array(how.buffer)
  const name = cString(path)
  for (let attempt = 1; ; attempt++) {
    try {
      return openat2(path, SYS_openat2, root, name, bytes, bytes.length)
    } catch (error) {
      if (attempt === RACES || !isSystemError(error, 'EAGAIN')) throw error
    }
  }
}
