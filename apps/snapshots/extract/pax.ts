import { type ByteString, malformed } from './tar-header.ts'

/** Values of an extended header, as bytes: attributes are binary. */
export type PaxRecords = ReadonlyMap<string, Buffer>

const XATTR = 'SCHILY.xattr.'
/** The only keys that come again and again; later encodings put their values into one list. */
const HOLE_OFFSET = 'GNU.sparse.offset'
const HOLE_BYTES = 'GNU.sparse.numbytes'
const MAX_TIME = 2n ** 63n - 1n // nanoseconds; the most that a Go runtime writes and reads back

/**
 * Reads `<length> <key>=<value>\n` records. An empty value takes the key back.
 * @throws {Fault} `invalid-argument` for a length that does not fit, or a name with a NUL in it
 */
export function parsePax(content: Buffer): PaxRecords {
  const records = new Map<string, Buffer>()
  const holes: string[] = []
  for (let offset = 0; offset < content.length; ) {
    const space = content.indexOf(0x20, offset)
    const digits = content.toString('latin1', offset, Math.min(space, offset + 20))
    if (space < 0 || !/^[0-9]{1,10}$/.test(digits)) throw malformed('an extended header has no length')
    const end = offset + Number(digits)
    const equals = content.indexOf(0x3d, space)
    if (end > content.length || equals < 0 || equals >= end || content[end - 1] !== 0x0a)
      throw malformed('a record of an extended header does not fit its length')
    const key = content.toString('latin1', space + 1, equals)
    const value = content.subarray(equals + 1, end - 1)
    if (key === '' || key.includes('\0')) throw malformed('an extended header has a bad key')
    if ((key === 'path' || key === 'linkpath') && value.includes(0)) throw malformed('a name has a NUL in it')
    if (key === HOLE_OFFSET || key === HOLE_BYTES) holes.push(value.toString('latin1'))
    else if (value.length === 0) records.delete(key)
    else records.set(key, value)
    offset = end
  }
  if (holes.length > 0) records.set('GNU.sparse.map', Buffer.from(holes.join(','), 'latin1'))
  return records
}

/** A name, byte for byte. */
export function paxName(records: PaxRecords, key: 'path' | 'linkpath'): ByteString | undefined {
  return records.get(key)?.toString('latin1')
}

/** @throws {Fault} `invalid-argument` when the value is not a whole number of at least 0 */
export function paxNumber(records: PaxRecords, key: 'size' | 'uid' | 'gid'): number | undefined {
  const digits = records.get(key)?.toString('latin1')
  if (digits === undefined) return undefined
  if (!/^[0-9]{1,16}$/.test(digits)) throw malformed(`a ${key} of an extended header is not a number`)
  return Number(digits)
}

/** Nanoseconds since 1970, finer digits cut off. */
export function paxTime(records: PaxRecords, key: 'mtime' | 'atime'): bigint | undefined {
  const value = records.get(key)?.toString('latin1')
  if (value === undefined) return undefined
  const parts = /^(-?)([0-9]{1,18})(?:\.([0-9]{0,64}))?$/.exec(value)
  if (!parts) throw malformed(`a ${key} of an extended header is not a time`)
  const nanoseconds = BigInt(parts[2] ?? '0') * 1_000_000_000n + BigInt((parts[3] ?? '').slice(0, 9).padEnd(9, '0'))
  return parts[1] === '-' ? -nanoseconds : nanoseconds
}

/** A time that every reader can show: what lies outside 1970 to 2262 becomes 1970. */
export function boundTime(time: bigint): bigint {
  return time < 0n || time > MAX_TIME ? 0n : time
}

const NO_XATTRS: ReadonlyMap<string, Uint8Array> = new Map()

/** The extended attributes that the entry shall have. */
export function paxXattrs(records: PaxRecords): ReadonlyMap<string, Uint8Array> {
  if (records.size === 0) return NO_XATTRS
  const xattrs = new Map<string, Uint8Array>()
  for (const [key, value] of records) if (key.startsWith(XATTR)) xattrs.set(key.slice(XATTR.length), value)
  return xattrs
}
