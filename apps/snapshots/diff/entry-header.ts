import { BLOCK, type ByteString, type Entry, type EntryType } from '../extract/tar-header.ts'

const NAME_BYTES = 100 // of the fields for a name and for the target of a link
const MAX_ID = 0o7777777
const MAX_LONG = 0o77777777777 // of a size, 8 GiB, and of a time in seconds
const SECOND = 1_000_000_000n // nanoseconds

const FLAGS = {
  file: '0',
  'hard-link': '1',
  symlink: '2',
  character: '3',
  block: '4',
  folder: '5',
  fifo: '6',
} as const satisfies Record<EntryType, string>

/** What a header block takes. */
interface Fields {
  readonly flag: string
  readonly name: ByteString
  readonly size: number
  readonly entry?: Entry
}

/**
 * The blocks before an entry's content: a POSIX header, and an extended one before it for what that cannot say. Access times
 * and the names of owners are left out: they would make the same tree two different layers.
 *
 * @see POSIX.1-2001, pax interchange format
 */
export function entryHeader(entry: Entry): Buffer {
  const name = entry.type === 'folder' ? `${entry.name}/` : entry.name
  const records = Buffer.concat(recordsOf({ ...entry, name }))
  const header = blockOf({ flag: FLAGS[entry.type], name, size: entry.size, entry })
  if (records.length === 0) return header
  const extended = blockOf({ flag: 'x', name: `PaxHeaders.0/${name.slice(0, 80)}`, size: records.length })
  return Buffer.concat([extended, records, paddingOf(records.length), header])
}

/** What fills the last block of a content. */
export function paddingOf(size: number): Buffer {
  return Buffer.alloc((BLOCK - (size % BLOCK)) % BLOCK)
}

function recordsOf({ name, linkName, size, uid, gid, mtime, xattrs }: Entry): Buffer[] {
  const records: Buffer[] = []
  const add = (key: string, value: string | Uint8Array): void => {
    records.push(recordOf(key, typeof value === 'string' ? Buffer.from(value, 'latin1') : value))
  }
  if (name.length > NAME_BYTES) add('path', name)
  if (linkName.length > NAME_BYTES) add('linkpath', linkName)
  if (size > MAX_LONG) add('size', String(size))
  if (uid > MAX_ID) add('uid', String(uid))
  if (gid > MAX_ID) add('gid', String(gid))
  if (mtime % SECOND !== 0n || mtime < 0n || mtime / SECOND > MAX_LONG) add('mtime', timeOf(mtime))
  for (const key of [...xattrs.keys()].sort()) add(`SCHILY.xattr.${key}`, xattrs.get(key) ?? '')
  return records
}

/** `<length> <key>=<value>\n`, where the length counts its own digits. */
function recordOf(key: string, value: Uint8Array): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`), value, Buffer.from('\n')])
  let length = rest.length
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length
  return Buffer.concat([Buffer.from(String(length)), rest])
}

function timeOf(time: bigint): string {
  const size = time < 0n ? -time : time
  const fraction = String(size % SECOND)
    .padStart(9, '0')
    .replace(/0+$/, '')
  return `${time < 0n ? '-' : ''}${size / SECOND}${fraction === '' ? '' : `.${fraction}`}`
}

function blockOf({ flag, name, size, entry }: Fields): Buffer {
  const block = Buffer.alloc(BLOCK)
  const seconds = Number((entry?.mtime ?? 0n) / SECOND)
  block.write(name.slice(0, NAME_BYTES), 0, 'latin1')
  block.write(octal(entry?.mode ?? 0o644, 7), 100)
  block.write(octal(fitting(entry?.uid ?? 0, MAX_ID), 7), 108)
  block.write(octal(fitting(entry?.gid ?? 0, MAX_ID), 7), 116)
  block.write(octal(fitting(size, MAX_LONG), 11), 124)
  block.write(octal(fitting(seconds, MAX_LONG), 11), 136)
  block.write(flag, 156)
  block.write((entry?.linkName ?? '').slice(0, NAME_BYTES), 157, 'latin1')
  block.write('ustar\x0000', 257, 'latin1')
  if (entry?.type === 'character' || entry?.type === 'block') {
    block.write(octal(entry.major, 7), 329)
    block.write(octal(entry.minor, 7), 337)
  }
  block.fill(' ', 148, 156)
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${octal(sum, 6)}\0 `, 148, 'latin1')
  return block
}

/** What does not fit stands in the extended header. */
function fitting(value: number, max: number): number {
  return value < 0 || value > max ? 0 : value
}

function octal(value: number, digits: number): string {
  return value.toString(8).padStart(digits, '0')
}
