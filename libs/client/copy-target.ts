import { randomBytes } from 'node:crypto'
import {
  chmodSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  ftruncateSync,
  lchownSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeSync,
} from 'node:fs'
import { futimesNs, lutimesNs, mkfifo, mknod } from '@gantry/linux/file'
import { O_PATH, openIn } from '@gantry/linux/open-in'
import { isSystemError } from '@gantry/linux/system'
import { Fault } from '@gantry/model/fault'
import { type ByteString, type CopyEntry, toText } from './copy-entry.ts'
import { here, isMadeUp } from './copy-source.ts'

const { O_WRONLY, O_RDONLY, O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_DIRECTORY, S_IFCHR, S_IFBLK } = constants
const SET_IDS = 0o6000

/** Where entries are written. */
export interface TargetTree {
  /** A descriptor of what nothing may lead out of. */
  readonly root: number
  /** The folder, seen from there. */
  readonly base: ByteString
  /** Whose an entry becomes, on the host. */
  readonly owner: (entry: CopyEntry) => { readonly uid: number; readonly gid: number }
  /** Keep set-user-ID and set-group-ID bits. */
  readonly setIds: boolean
  /** Make FIFOs and devices, and replace them. */
  readonly special: boolean
  /** Is told of what is left out, and why. */
  readonly onSkip: (path: string, why: string) => void
}

/**
 * Writes entries into a tree. Links that lead out of `root` stay inside, whoever changes the tree meanwhile. What was there is
 * replaced in one step, but for folders, which are merged and keep what is said of them, and for files that something is mounted
 * on, which are written over. One that is killed leaves at most one file, `.gantry-cp-...`.
 *
 * @throws {Fault} `failed-precondition` for a folder where something else is, and the reverse; `invalid-argument` for a path
 *   with `..`
 */
export async function writeTree(
  target: TargetTree,
  entries: AsyncIterable<CopyEntry>,
  signal: AbortSignal,
): Promise<{ readonly entries: number; readonly bytes: bigint }> {
  const written = { entries: 0, bytes: 0n }
  const folders: CopyEntry[] = []
  for await (const entry of entries) {
    signal.throwIfAborted()
    if (!(await writeEntry(target, entry, signal))) continue
    written.entries++
    written.bytes += BigInt(entry.size)
    if (entry.kind === 'folder') folders.push(entry)
  }
  for (const { path, mtime } of folders.reverse()) setTime(target, path, mtime) // what was put into them has changed it
  return written
}

async function writeEntry(target: TargetTree, entry: CopyEntry, signal: AbortSignal): Promise<boolean> {
  const names = namesOf(entry.path)
  const name = names.pop()
  if (name === undefined) return false
  if (!target.special && !['file', 'folder', 'symlink', 'hard-link'].includes(entry.kind)) {
    target.onSkip(toText(entry.path), `it is a ${entry.kind === 'fifo' ? 'FIFO' : 'device'}`)
    return false
  }
  using parent = openFolder(target, names)
  using there = opened(() => openIn(parent.fd, bytesOf(name), O_PATH | O_NOFOLLOW))
  const stat = there && fstatSync(there.fd)
  const isSpecial = stat && !stat.isDirectory() && !stat.isFile() && !stat.isSymbolicLink()
  if (stat && stat.isDirectory() !== (entry.kind === 'folder')) throw mismatch(entry)
  if (isSpecial && !target.special) throw mismatch(entry) // such as /dev/null
  if (entry.kind === 'folder') {
    if (!stat) makeFolder(target, { parent: parent.fd, name }, entry)
    return !stat
  }
  if (there && mountOf(there.fd) !== mountOf(parent.fd)) {
    await overwrite(there.fd, entry, signal)
  } else await replace(target, { parent: parent.fd, name }, entry, signal)
  return true
}

/**
 * Writes over a file. What is said of it stays.
 *
 * @param path a descriptor of it (`O_PATH`): a device, which a container may make, does things when it is opened
 * @throws {Fault} `failed-precondition` unless both are files, and for one of /proc, to which a container may lead: the kernel
 *   would do as root what it says
 */
export async function overwrite(path: number, entry: CopyEntry, signal: AbortSignal): Promise<void> {
  if (entry.kind !== 'file' || !fstatSync(path).isFile() || isMadeUp(path)) throw mismatch(entry)
  using file = taken(openSync(here(path), O_WRONLY | O_NONBLOCK))
  ftruncateSync(file.fd, 0)
  await fill(file.fd, entry, signal)
}

interface Place {
  readonly parent: number
  readonly name: ByteString
}

/** Made under a name of its own, then moved. */
async function replace(target: TargetTree, at: Place, entry: CopyEntry, signal: AbortSignal): Promise<void> {
  const draft = { parent: at.parent, name: `.gantry-cp-${randomBytes(8).toString('hex')}` }
  try {
    if (entry.kind === 'file') await makeFile(target, draft, entry, signal)
    else if (entry.kind === 'hard-link') makeLink(target, draft, entry)
    else makeOther(target, draft, entry)
    renameSync(pathOf(draft), pathOf(at))
  } finally {
    rmSync(pathOf(draft), { force: true }) // two names of one file are not renamed
  }
}

async function makeFile(target: TargetTree, at: Place, entry: CopyEntry, signal: AbortSignal): Promise<void> {
  using file = taken(openIn(at.parent, bytesOf(at.name), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600))
  await fill(file.fd, entry, signal)
  const { uid, gid } = target.owner(entry)
  fchownSync(file.fd, uid, gid)
  fchmodSync(file.fd, modeOf(target, entry))
  futimesNs(file.fd, entry.mtime, entry.mtime)
}

/** Parts that hold nothing but zeros become holes. */
async function fill(fd: number, entry: CopyEntry, signal: AbortSignal): Promise<void> {
  let at = 0
  for await (const chunk of entry.body) {
    signal.throwIfAborted()
    if (!isZero(chunk))
      for (let done = 0; done < chunk.length; ) done += writeSync(fd, chunk, done, undefined, at + done)
    at += chunk.length
  }
  ftruncateSync(fd, at)
}

/** A hard link leads to what was written before. */
function makeLink(target: TargetTree, at: Place, entry: CopyEntry): void {
  const names = namesOf(entry.link)
  const name = names.pop()
  if (name === undefined) throw mismatch(entry)
  using parent = openFolder(target, names)
  linkSync(pathOf({ parent: parent.fd, name }), pathOf(at))
}

function makeOther(target: TargetTree, at: Place, entry: CopyEntry): void {
  const path = pathOf(at)
  if (entry.kind === 'symlink') symlinkSync(bytesOf(entry.link), path)
  else if (entry.kind === 'fifo') mkfifo(path, 0o600)
  else mknod(path, (entry.kind === 'block' ? S_IFBLK : S_IFCHR) | 0o600, entry.major, entry.minor)
  const { uid, gid } = target.owner(entry)
  lchownSync(path, uid, gid)
  lutimesNs(path, entry.mtime, entry.mtime)
  if (entry.kind === 'symlink') return
  using made = taken(openIn(at.parent, bytesOf(at.name), O_PATH | O_NOFOLLOW))
  chmodSync(here(made.fd), modeOf(target, entry))
}

function makeFolder(target: TargetTree, at: Place, entry: CopyEntry): void {
  mkdirSync(pathOf(at), 0o700)
  using folder = taken(openIn(at.parent, bytesOf(at.name), O_RDONLY | O_DIRECTORY | O_NOFOLLOW))
  const { uid, gid } = target.owner(entry)
  fchownSync(folder.fd, uid, gid)
  fchmodSync(folder.fd, modeOf(target, entry))
}

function setTime(target: TargetTree, path: ByteString, mtime: bigint): void {
  const flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW
  const open = () => openIn(target.root, bytesOf(`${target.base}/${path}`), flags)
  using folder = opened(open, 'ENOTDIR', 'ELOOP') // somebody has put something else there
  if (folder) futimesNs(folder.fd, mtime, mtime)
}

/** Folders that an archive does not name are made. */
function openFolder(target: TargetTree, names: readonly ByteString[]): Opened {
  const path = bytesOf([target.base, ...names].join('/'))
  const found = opened(() => openIn(target.root, path, O_PATH | O_DIRECTORY))
  if (found) return found
  const name = names.at(-1)
  if (name === undefined)
    throw new Fault('not-found', `Cannot copy into "${toText(target.base)}": there is no such folder`)
  using parent = openFolder(target, names.slice(0, -1))
  mkdirSync(pathOf({ parent: parent.fd, name }), 0o755)
  return taken(openIn(parent.fd, bytesOf(name), O_PATH | O_DIRECTORY | O_NOFOLLOW))
}

function namesOf(path: ByteString): ByteString[] {
  const names = path.split('/').filter((name) => name !== '' && name !== '.')
  if (names.includes('..') || path.includes('\0'))
    throw new Fault('invalid-argument', `Cannot copy ${JSON.stringify(toText(path))}: it leads elsewhere`)
  return names
}

function modeOf({ setIds }: TargetTree, { mode }: CopyEntry): number {
  return setIds ? mode : mode & ~SET_IDS
}

/** Which mount a descriptor is in. */
function mountOf(fd: number): string | undefined {
  return /^mnt_id:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1]
}

function mismatch({ path, kind }: CopyEntry): Fault {
  const what = kind === 'folder' ? 'something that is no folder' : 'a folder, or no file'
  return new Fault('failed-precondition', `Cannot copy "${toText(path)}": there is ${what} of that name`)
}

const zeros = Buffer.alloc(256 * 1024)
function isZero(chunk: Uint8Array): boolean {
  return chunk[0] === 0 && chunk.length <= zeros.length && zeros.subarray(0, chunk.length).equals(chunk)
}

function bytesOf(text: ByteString): Buffer {
  return Buffer.from(text, 'latin1')
}

function pathOf({ parent, name }: Place): Buffer {
  return bytesOf(`${here(parent)}/${name}`)
}

type Opened = Disposable & { readonly fd: number }

function taken(fd: number): Opened {
  return { fd, [Symbol.dispose]: () => closeSync(fd) }
}

/** Undefined when there is nothing. */
function opened(open: () => number, ...codes: readonly string[]): Opened | undefined {
  try {
    return taken(open())
  } catch (error) {
    if (isSystemError(error, 'ENOENT', ...codes)) return undefined
    throw error
  }
}
