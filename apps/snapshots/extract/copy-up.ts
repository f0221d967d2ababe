import { closeSync, constants, fstatSync, openSync, readSync, writeSync } from 'node:fs'
import { futimesNs } from '@gantry/linux/file'
import { O_PATH, openIn } from '@gantry/linux/open-in'
import { isSystemError } from '@gantry/linux/system'
import { Fault } from '@gantry/model/fault'
import { xattrsOf } from './folders.ts'
import { show } from './layer-path.ts'
import { ownFile } from './metadata.ts'
import type { ByteString } from './tar-header.ts'
import { toPath } from './tree.ts'

const PIECE_BYTES = 256 * 1024
const NEW_FILE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW

/**
 * Opens a file of the layers below, to be read. The caller closes it.
 * @param lowers descriptors of their roots, nearest first
 * @returns undefined when it is not there
 * @throws {Fault} `failed-precondition` when it is something else than a file
 */
export function openBelow(lowers: readonly number[], path: readonly ByteString[]): number | undefined {
  const name = Buffer.from(path.join('/'), 'latin1')
  const lower = lowers.find((each) => isFile(each, name))
  if (lower === undefined) return undefined
  return openIn(lower, name, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
}

/** Makes a copy of the file open at `from`, with all that belongs to it, as the overlay does before it links. */
export function copyUp(from: number, path: ByteString): void {
  const stat = fstatSync(from, { bigint: true })
  const owner = { mode: Number(stat.mode) & 0o7777, uid: Number(stat.uid), gid: Number(stat.gid) }
  const fd = openSync(toPath(path), NEW_FILE, owner.mode)
  try {
    const piece = Buffer.alloc(PIECE_BYTES)
    for (let length = readSync(from, piece); length > 0; length = readSync(from, piece))
      for (let written = 0; written < length; ) written += writeSync(fd, piece, written, length - written)
    ownFile({ fd, path, isPlain: false }, { ...owner, xattrs: xattrsOf(from) })
    futimesNs(fd, stat.atimeNs, stat.mtimeNs)
  } finally {
    closeSync(fd)
  }
}

/** Looks without opening: that would wait for a FIFO, or wake a device. */
function isFile(lower: number, name: Buffer): boolean {
  const fd = lookAt(lower, name)
  if (fd === undefined) return false
  try {
    if (fstatSync(fd).isFile()) return true
  } finally {
    closeSync(fd)
  }
  const shown = show(name.toString('latin1'))
  throw new Fault('failed-precondition', `Cannot link to ${shown}: in the layers below it is no file`)
}

function lookAt(lower: number, name: Buffer): number | undefined {
  try {
    return openIn(lower, name, O_PATH | constants.O_NOFOLLOW)
  } catch (error) {
    if (isSystemError(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) return undefined
    throw error
  }
}
