import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'
import { isCharDevice00, lgetxattr } from '@gantry/linux/file'
import { O_PATH, openIn } from '@gantry/linux/open-in'
import { isSystemError } from '@gantry/linux/system'
import { Fault } from '@gantry/model/fault'

const MAX_BYTES = 1024 * 1024 // of one file read here; anything larger is not a list of users
const OPAQUE = 'trusted.overlay.opaque'

/** A mount as a snapshotter hands it out. */
export interface SnapshotMount {
  readonly type: string
  readonly source: string
  readonly target?: string
  readonly options: readonly string[]
}

/**
 * Reads a small file of a snapshot without mounting it, by looking through its folders from the top one down. Links are
 * followed inside a folder only, whatever they name; what is not a regular file is never opened, so a FIFO or a device in an image does
 * no harm. `''` when there is none.
 *
 * @param path relative, of two parts, such as `etc/passwd`
 * @throws {Fault} `failed-precondition` when it is too big, no regular file, or the mounts are of a kind that has no folders;
 *   `permission-denied` when this process may not look into them
 */
export function readFromSnapshot(mounts: readonly SnapshotMount[], path: string): string {
  try {
    for (const folder of foldersOf(mounts)) {
      const found = readFromFolder(folder, path)
      if (found === 'deleted') return ''
      if (found) return found.text
    }
    return ''
  } catch (error) {
    if (isSystemError(error, 'EACCES', 'EPERM'))
      throw new Fault('permission-denied', `Cannot read ${path} of the image: its snapshot is not readable here`, {
        cause: error,
      })
    throw error
  }
}

/** The folders that make up a root file system, the top one first. */
export function foldersOf(mounts: readonly SnapshotMount[]): string[] {
  const [mount, ...more] = mounts
  if (!mount || more.length > 0) throw unreadable(mounts)
  if (mount.type === 'bind' || mount.options.includes('bind') || mount.options.includes('rbind')) return [mount.source]
  if (mount.type !== 'overlay') throw unreadable(mounts)
  const upper = optionOf(mount, 'upperdir')
  const lower = optionOf(mount, 'lowerdir')
  return [...(upper === undefined ? [] : [upper]), ...(lower === undefined ? [] : lower.split(':'))]
}

function optionOf(mount: SnapshotMount, name: string): string | undefined {
  return mount.options.find((option) => option.startsWith(`${name}=`))?.slice(name.length + 1)
}

function unreadable(mounts: readonly SnapshotMount[]): Fault {
  const types = mounts.map((mount) => mount.type).join(', ') || 'none'
  return new Fault('failed-precondition', `Cannot look into the snapshot: its mounts (${types}) have no folders`)
}

/** `undefined`: look further down; `deleted`: whatever is further down is hidden. */
function readFromFolder(folder: string, path: string): { text: string } | 'deleted' | undefined {
  try {
    using file = opened(openIn(folder, path, O_PATH))
    const stat = fstatSync(file.fd)
    if (isCharDevice00(stat)) return 'deleted'
    if (!stat.isFile()) throw new Fault('failed-precondition', `Cannot read ${path} of the image: not a regular file`)
    return { text: readText(file.fd, path) }
  } catch (error) {
    if (isSystemError(error, 'ENOTDIR')) return 'deleted'
    if (isSystemError(error, 'ELOOP'))
      throw new Fault('failed-precondition', `Cannot read ${path} of the image: its links lead nowhere`, {
        cause: error,
      })
    if (!isSystemError(error, 'ENOENT')) throw error
    return isOpaque(folder, path) ? 'deleted' : undefined
  }
}

function isOpaque(folder: string, path: string): boolean {
  try {
    const parent = path.slice(0, path.lastIndexOf('/'))
    using dir = opened(openIn(folder, parent, constants.O_RDONLY | constants.O_DIRECTORY))
    return Buffer.from(lgetxattr(dir.fd, OPAQUE) ?? []).toString() === 'y'
  } catch (error) {
    if (isSystemError(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'ENOTSUP')) return false
    throw error
  }
}

/** The size that counts is that of the bytes read: a file may grow meanwhile. */
function readText(pathFd: number, path: string): string {
  using file = opened(openSync(`/proc/self/fd/${pathFd}`, constants.O_RDONLY | constants.O_NONBLOCK))
  const bytes = Buffer.alloc(MAX_BYTES + 1)
  let length = 0
  for (let read = -1; read !== 0 && length < bytes.length; length += read)
    read = readSync(file.fd, bytes, length, bytes.length - length, null)
  if (length > MAX_BYTES)
    throw new Fault('failed-precondition', `Cannot read ${path} of the image: more than ${MAX_BYTES} bytes`)
  return bytes.toString('utf8', 0, length)
}

function opened(fd: number): Disposable & { readonly fd: number } {
  return { fd, [Symbol.dispose]: () => closeSync(fd) }
}
