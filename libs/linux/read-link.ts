import { declare } from './system.ts'

const MAX_TARGET = 4096 // bytes; the kernel's own bound for a path

const readlinkat = declare('long readlinkat(int dir, const char *path, void *buffer, size_t size)')

/**
 * What a symbolic link says, of a descriptor of the link itself (`O_PATH`, `O_NOFOLLOW`).
 *
 * @throws {SystemError} `ENOENT` for what is no link
 */
export function readLink(fd: number): Uint8Array {
  const buffer = Buffer.alloc(MAX_TARGET)
  return buffer.subarray(0, readlinkat(`fd ${fd}`, fd, '', buffer, buffer.length))
}
