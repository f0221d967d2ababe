import { lgetxattr, lsetxattr } from './file.ts'

// The attribute system.posix_acl_access, as the kernel reads and writes it: a version, then entries of eight bytes, tag (2),
// permissions (2), id (4), sorted by tag and id.

const NAME = 'system.posix_acl_access'
const VERSION = 2
const ENTRY_BYTES = 8
const EXECUTE = 1
const NO_ID = 0xffffffff
const OWNER = 0x01
const USER = 0x02
const GROUP = 0x04
const MASK = 0x10
const OTHER = 0x20

interface Entry {
  readonly tag: number
  readonly permissions: number
  readonly id: number
}

/**
 * Lets the user `uid` walk through a folder, and nobody else: it may enter what it knows the name of, and see no list. The
 * mode of the folder then shows as 0710.
 *
 * @param mode of the folder, when it has no access list yet
 * @throws {SystemError} `ENOTSUP` when the file system has no access lists
 */
export function letWalk(path: string, uid: number, mode: number): void {
  const entries = readEntries(path) ?? entriesOf(mode)
  const kept = entries.filter(({ tag, id }) => tag !== MASK && !(tag === USER && id === uid))
  const all = [...kept, { tag: USER, permissions: EXECUTE, id: uid }, { tag: MASK, permissions: EXECUTE, id: NO_ID }]
  lsetxattr(path, NAME, encode(all.toSorted((a, b) => a.tag - b.tag || a.id - b.id)))
}

function entriesOf(mode: number): Entry[] {
  return [
    { tag: OWNER, permissions: (mode >> 6) & 7, id: NO_ID },
    { tag: GROUP, permissions: (mode >> 3) & 7, id: NO_ID },
    { tag: OTHER, permissions: mode & 7, id: NO_ID },
  ]
}

function readEntries(path: string): Entry[] | undefined {
  const value = lgetxattr(path, NAME)
  if (value === undefined) return undefined
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength)
  const count = Math.floor((value.byteLength - 4) / ENTRY_BYTES)
  return Array.from({ length: count }, (_, n) => {
    const at = 4 + n * ENTRY_BYTES
    return {
      tag: view.getUint16(at, true),
      permissions: view.getUint16(at + 2, true),
      id: view.getUint32(at + 4, true),
    }
  })
}

function encode(entries: readonly Entry[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(4 + entries.length * ENTRY_BYTES))
  view.setUint32(0, VERSION, true)
  entries.forEach(({ tag, permissions, id }, n) => {
    const at = 4 + n * ENTRY_BYTES
    view.setUint16(at, tag, true)
    view.setUint16(at + 2, permissions, true)
    view.setUint32(at + 4, id, true)
  })
  return new Uint8Array(view.buffer)
}
