import { closeSync, constants, fstatSync, openSync, type Stats } from 'node:fs'
import { posix, resolve } from 'node:path'
import type { Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { getSystemErrorMessage } from 'node:util'
import { O_PATH, openIn } from '@gantry/linux/open-in'
import { isSystemError } from '@gantry/linux/system'
import { Fault } from '@gantry/model/fault'
import { openContainerRoot } from './container-root.ts'
import type { Container } from './containers.ts'
import { type ByteString, type CopyEntry, fromText, type Ids, idOnHost, SAME_IDS } from './copy-entry.ts'
import { readTree } from './copy-source.ts'
import { overwrite, type TargetTree, writeTree } from './copy-target.ts'
import { packEntries, unpackEntries } from './tar.ts'
import type { Wire } from './wire.ts'

/** Files of a container; relative paths begin at its root. */
export interface InContainer {
  readonly container: string
  readonly path: string
}

/** Files of this host. */
export interface OnHost {
  readonly path: string
}

export interface CopyOptions {
  /** What to copy, or a tar of it. */
  readonly from: InContainer | OnHost | { readonly archive: AsyncIterable<Uint8Array> }
  /** Where to, or who gets a tar. */
  readonly to: InContainer | OnHost | { readonly archive: Writable }
  /** Copy what a link leads to when it is what is to be copied; links below stay links. */
  readonly follow?: boolean
  /** Keep user and group, by number. Else what comes into a container is its root's, and what leaves it is ours. */
  readonly archive?: boolean
  /** Is told of what a host is not given: devices and FIFOs. */
  readonly onSkip?: (path: string, why: string) => void
}

export interface Copied {
  readonly entries: number
  readonly bytes: bigint
}

/**
 * Copies files into a container or out of it, whether it runs or not, as `docker cp` does: what is in `from` becomes `to`, or
 * comes into it when that is a folder; of a path that ends in `/.` only what is in the folder. Runs nothing in the container and
 * follows no link of it out of it. Only for who may see its files, on the node: usually root.
 *
 * @throws {Fault} `not-found`, `invalid-argument` unless one side is a container, `failed-precondition` for a folder where a file
 *   is, and the reverse, `permission-denied`, `resource-exhausted` when the disk is full; what was copied until then stays
 */
export async function copy(
  wire: Wire,
  get: (id: string) => Promise<Container>,
  options: CopyOptions,
  signal: AbortSignal,
): Promise<Copied> {
  const { from, to } = options
  if ('container' in from === 'container' in to)
    throw new Fault('invalid-argument', 'Cannot copy: one side has to be a container, the other not')
  using stack = new DisposableStack()
  const open = async (side: InContainer | OnHost, writes: boolean): Promise<Side> => {
    const { fd, ids } =
      'container' in side
        ? stack.use(await openContainerRoot(wire, await get(side.container), { writes }, signal))
        : { fd: stack.adopt(openSync('/', O_PATH), closeSync), ids: SAME_IDS }
    return { fd, ids, path: 'container' in side ? side.path : hostPath(side.path) }
  }
  try {
    const source = 'archive' in from ? from : openSource(await open(from, false), options, stack)
    if (!('archive' in to)) {
      const target = await open(to, true)
      return await writeInto({ source, target, stack, isHost: !('container' in to) }, options, signal)
    }
    if (!('archive' in source)) return await sendTree(source, to.archive, signal)
  } catch (error) {
    throw told(error)
  }
  throw new Fault('invalid-argument', 'Cannot copy an archive into an archive')
}

interface Side {
  readonly fd: number
  readonly ids: Ids
  readonly path: string
}

interface Source {
  /** Of what is to be copied. */
  readonly fd: number
  readonly ids: Ids
  readonly isFolder: boolean
  /** Its own name; empty for what is in it. */
  readonly name: ByteString
}

type Archive = { readonly archive: AsyncIterable<Uint8Array> }

/** A path that ends in a slash leads through a link. */
function openSource(
  { fd: root, ids, path }: Side,
  { follow = false }: Pick<CopyOptions, 'follow'>,
  stack: DisposableStack,
): Source {
  const clean = cleanPath(path)
  const enters = /(^|\/)\.?$/.test(path)
  const fd = stack.adopt(find(root, clean, O_PATH | (enters || follow ? 0 : constants.O_NOFOLLOW)), closeSync)
  const isFolder = fstatSync(fd).isDirectory()
  if (enters && !isFolder) throw new Fault('failed-precondition', `Cannot copy "${path}": it is no folder`)
  const contents = clean === '/' || /(^|\/)\.$/.test(path)
  return { fd, ids, isFolder, name: contents ? '' : fromText(posix.basename(clean)) }
}

async function sendTree(source: Source, to: Writable, signal: AbortSignal): Promise<Copied> {
  const sent = { entries: 0, bytes: 0n }
  async function* counted(): AsyncGenerator<CopyEntry> {
    for await (const entry of readTree(source, signal)) {
      sent.entries++
      sent.bytes += BigInt(entry.size)
      yield entry
    }
  }
  await pipeline(packEntries(counted(), signal), to, { end: false, signal })
  return sent
}

interface Writing {
  readonly source: Source | Archive
  readonly target: Side
  readonly isHost: boolean
  readonly stack: DisposableStack
}

async function writeInto(
  { source, target, isHost, stack }: Writing,
  { archive = false, onSkip = () => undefined }: CopyOptions,
  signal: AbortSignal,
): Promise<Copied> {
  const isArchive = 'archive' in source
  const { folder, name, link } = placeOf(target, source)
  const entries = isArchive ? unpackEntries(source.archive, signal) : readTree({ ...source, name }, signal)
  if (link) return await writeThrough(target.fd, link, entries, signal)
  const keeps = archive || isArchive
  const { uids, gids } = target.ids
  const own = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 }
  const tree: TargetTree = {
    // what comes out of a container is led nowhere, not even by links that were there
    ...(isHost
      ? { root: stack.adopt(find(target.fd, folder, O_PATH | constants.O_DIRECTORY), closeSync), base: '.' }
      : { root: target.fd, base: fromText(folder) }),
    owner({ uid, gid }) {
      if (isHost) return keeps ? { uid, gid } : own
      return { uid: idOnHost(uids, keeps ? uid : 0), gid: idOnHost(gids, keeps ? gid : 0) }
    },
    ...{ setIds: keeps, special: !isHost, onSkip },
  }
  return await writeTree(tree, entries, signal)
}

/** Which folder it comes into, and what it is called there; or the link that leads to the file that it replaces. */
function placeOf(
  { fd: root, path }: Side,
  source: Source | Archive,
): { folder: string; name: ByteString; link?: string } {
  const clean = cleanPath(path)
  const there = lookAt(root, clean, 0)
  if (there?.isDirectory()) return { folder: clean, name: 'archive' in source ? '' : source.name }
  if ('archive' in source || (there && source.isFolder))
    throw new Fault('failed-precondition', `Cannot copy into "${path}": it is no folder`)
  if (!there && path.endsWith('/') && !source.isFolder)
    throw new Fault('not-found', `Cannot copy into "${path}": there is no such folder`)
  const isLink = there !== undefined && lookAt(root, clean, constants.O_NOFOLLOW)?.isSymbolicLink()
  const place = { folder: posix.dirname(clean), name: fromText(posix.basename(clean)) }
  return isLink ? { ...place, link: clean } : place
}

async function writeThrough(
  root: number,
  link: string,
  entries: AsyncIterable<CopyEntry>,
  signal: AbortSignal,
): Promise<Copied> {
  const fd = find(root, link, O_PATH)
  try {
    for await (const entry of entries) {
      await overwrite(fd, entry, signal)
      return { entries: 1, bytes: BigInt(entry.size) }
    }
    return { entries: 0, bytes: 0n }
  } finally {
    closeSync(fd)
  }
}

function hostPath(path: string): string {
  return resolve(path) + (/\/\.?$|^\.$/.exec(path)?.[0].replace(/^\.$/, '/.') ?? '')
}

/** Absolute, without `.`, `..` and a slash at its end. */
function cleanPath(path: string): string {
  return posix.normalize(`/${path}`).replace(/(.)\/+$/, '$1')
}

function lookAt(root: number, path: string, flags: number): Stats | undefined {
  try {
    const fd = openIn(root, path, O_PATH | flags)
    try {
      return fstatSync(fd)
    } finally {
      closeSync(fd)
    }
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) return undefined
    throw error
  }
}

function find(root: number, path: string, flags: number): number {
  try {
    return openIn(root, path, flags)
  } catch (cause) {
    if (!isSystemError(cause, 'ENOENT')) throw cause
    throw new Fault('not-found', `Cannot copy "${path}": there is no such file or folder`, { cause })
  }
}

const CODES = {
  ENOSPC: 'resource-exhausted',
  EDQUOT: 'resource-exhausted',
  EACCES: 'permission-denied',
  EPERM: 'permission-denied',
} as const

/** What the kernel refuses, in words. */
function told(error: unknown): unknown {
  if (!isSystemError(error) || error.code === 'EPIPE') return error
  const [, code = 'failed-precondition'] = Object.entries(CODES).find(([name]) => name === error.code) ?? []
  const number = 'errno' in error ? -Math.abs(Number(error.errno)) : 0
  return new Fault(code, `Cannot copy: ${getSystemErrorMessage(number)}`, { cause: error })
}
