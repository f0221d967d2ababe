import { closeSync, constants, readdirSync } from 'node:fs'
import { O_PATH, openIn } from '@gantry/linux/open-in'
import { isSystemError } from '@gantry/linux/system'
import { MEDIA } from '@gantry/model/descriptor'
import { openChanges } from './changes.ts'
import type { Container } from './containers.ts'
import { openLease } from './lease.ts'
import { openSnapshot } from './snapshot-tree.ts'
import { readTar } from './tar.ts'
import type { Wire } from './wire.ts'

const WHITEOUT = '.wh.'
const OPAQUE = '.wh..wh..opq'
const O_FOLDER = O_PATH | constants.O_NOFOLLOW | constants.O_DIRECTORY

export interface Change {
  readonly kind: 'added' | 'changed' | 'deleted'
  /** From the root of the container. */
  readonly path: string
}

/**
 * What a container has written and deleted on top of its image, sorted by path. The folders above what has changed have changed,
 * too. All that it wrote is packed by the server first, and looked up in what is below, which is mounted for this process alone.
 *
 * @throws {Fault} `not-found`, `permission-denied` for who may not mount, `failed-precondition` on another host than the node
 */
export async function listChanges(
  wire: Wire,
  { snapshotter, snapshotKey: key }: Container,
  signal: AbortSignal,
): Promise<Change[]> {
  await using held = openLease(wire, signal)
  const lease = await held.id
  await using changes = await openChanges(wire, { snapshotter, key }, lease, signal)
  using below = changes.parent === '' ? undefined : openSnapshot(changes.below)
  const { layer } = await changes.pack(MEDIA.ociLayer)
  const kinds = new Map<string, Change['kind']>()
  const blob = wire.services.content.read({ digest: layer.digest }, wire.call(signal, { lease }))
  for await (const { header } of readTar(bytesOf(blob), signal))
    note(kinds, `/${header.name.replace(/^\.?\//, '').replace(/\/+$/, '')}`, below?.fd)
  const found = Array.from(kinds, ([path, kind]): Change => ({ kind, path }))
  return found.sort((a, b) => (a.path < b.path ? -1 : 1))
}

async function* bytesOf(messages: AsyncIterable<{ readonly data: Uint8Array }>): AsyncGenerator<Uint8Array> {
  for await (const { data } of messages) yield data
}

/** Entries of a layer come as its folders lie: what is put into a folder comes after that its old content is gone. */
function note(kinds: Map<string, Change['kind']>, path: string, below: number | undefined): void {
  const at = path.lastIndexOf('/')
  const [folder, name] = [path.slice(0, at), path.slice(at + 1)]
  if (name === OPAQUE) for (const gone of namesIn(below, folder)) kinds.set(`${folder}/${gone}`, 'deleted')
  else if (name.startsWith(WHITEOUT)) kinds.set(`${folder}/${name.slice(WHITEOUT.length)}`, 'deleted')
  else if (name !== '') kinds.set(path, isIn(below, path) ? 'changed' : 'added')
}

function isIn(root: number | undefined, path: string): boolean {
  return within(root, path, O_PATH | constants.O_NOFOLLOW, () => true) ?? false
}

function namesIn(root: number | undefined, folder: string): string[] {
  return within(root, folder, O_FOLDER, (fd) => readdirSync(`/proc/self/fd/${fd}`)) ?? []
}

/** Goes down one name after the other: a link in between leads to another place. Undefined when there is nothing. */
function within<T>(root: number | undefined, path: string, flags: number, look: (fd: number) => T): T | undefined {
  if (root === undefined) return undefined
  const names = path.split('/').filter((name) => name !== '')
  let fd = openIn(root, '.', O_FOLDER)
  try {
    for (const [at, name] of names.entries()) {
      const next = openIn(fd, name, at === names.length - 1 ? flags : O_FOLDER)
      closeSync(fd)
      fd = next
    }
    return look(fd)
  } catch (error) {
    if (isSystemError(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) return undefined
    throw error
  } finally {
    closeSync(fd)
  }
}
