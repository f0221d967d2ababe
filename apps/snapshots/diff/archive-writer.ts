import { createHash } from 'node:crypto'
import { closeSync, constants, fstatSync, openSync, readSync, writeSync } from 'node:fs'
import { isSystemError } from '@gantry/linux/system'
import { type Digest, parseDigest } from '@gantry/model/digest'
import { BLOCK, type ByteString, type Entry } from '../extract/tar-header.ts'
import { toPath } from '../extract/tree.ts'
import { entryHeader, paddingOf } from './entry-header.ts'

const PIECE_BYTES = 256 * 1024 // hashed and written at a time
const READ_FILE = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK

/** The plain archive that was written. */
export interface Packed {
  readonly digest: Digest
  readonly size: bigint
}

/** Writes entries one after the other. */
export interface Archive {
  /** An entry without content. */
  entry(entry: Entry): void
  /** An entry with the content of the file at `at`. False when it is gone, or no file any more. */
  file(entry: Entry, at: ByteString): boolean
  /** Writes the end mark. */
  finish(): Packed
}

/**
 * @param output a descriptor; writing waits until its reader has room
 * @param check is called every few hundred kilobytes and every entry; it throws to stop
 */
export function createArchive(output: number, check: () => void): Archive {
  const hash = createHash('sha256')
  const piece = Buffer.alloc(PIECE_BYTES)
  let used = 0
  let size = 0n

  function flush(): void {
    check()
    const bytes = piece.subarray(0, used)
    hash.update(bytes)
    for (let written = 0; written < used; ) written += writeSync(output, bytes, written)
    size += BigInt(used)
    used = 0
  }

  function put(bytes: Buffer): void {
    for (let offset = 0; offset < bytes.length; ) {
      const length = bytes.copy(piece, used, offset)
      offset += length
      used += length
      if (used === PIECE_BYTES) flush()
    }
  }

  /** Exactly `length` bytes, whatever the file has. */
  function putFile(fd: number, length: number): void {
    for (let left = length; left > 0; ) {
      const room = Math.min(left, PIECE_BYTES - used)
      const read = readSync(fd, piece, used, room, null)
      if (read === 0) piece.fill(0, used, used + room)
      used += read || room
      left -= read || room
      if (used === PIECE_BYTES) flush()
    }
  }

  return {
    entry(entry) {
      check()
      put(entryHeader(entry))
    },
    file(entry, at) {
      const fd = openFile(at)
      if (fd === undefined) return false
      try {
        const stat = fstatSync(fd)
        if (!stat.isFile()) return false
        put(entryHeader({ ...entry, size: stat.size }))
        putFile(fd, stat.size)
        put(paddingOf(stat.size))
        return true
      } finally {
        closeSync(fd)
      }
    },
    finish() {
      put(Buffer.alloc(2 * BLOCK))
      flush()
      return { digest: parseDigest(`sha256:${hash.digest('hex')}`), size }
    },
  }
}

function openFile(path: ByteString): number | undefined {
  try {
    return openSync(toPath(path), READ_FILE)
  } catch (error) {
    if (isSystemError(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO')) return undefined
    throw error
  }
}
