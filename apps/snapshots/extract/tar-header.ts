import { Fault } from '@gantry/model/fault'

export const BLOCK = 512 // bytes: headers and contents are padded to it

export type EntryType = 'file' | 'hard-link' | 'symlink' | 'character' | 'block' | 'folder' | 'fifo'

/** Text whose characters stand for one byte each: names in an archive need not be UTF-8. */
export type ByteString = string

/** One entry of an archive, its extended headers merged in. */
export interface Entry {
  readonly type: EntryType
  readonly name: ByteString
  /** Target of a link, '' otherwise. */
  readonly linkName: ByteString
  /** Permission bits with setuid, setgid and sticky. */
  readonly mode: number
  readonly uid: number
  readonly gid: number
  /** Bytes of the file, its holes included; 0 for all but files. */
  readonly size: number
  /** Nanoseconds since 1970. */
  readonly mtime: bigint
  readonly atime: bigint | undefined
  readonly major: number
  readonly minor: number
  readonly xattrs: ReadonlyMap<string, Uint8Array>
}

/** A header block as it is, before extended headers. `flag` is the type byte as text. */
export interface RawHeader extends Omit<Entry, 'type' | 'xattrs' | 'atime'> {
  readonly flag: string
}

const MAX_ID = 0xffff_fffe // the kernel keeps the last one for "unchanged"

/**
 * Reads one block: ustar, GNU, star or the old format without magic.
 * @throws {Fault} `invalid-argument` when the checksum or a number is wrong
 */
export function parseHeader(block: Buffer): RawHeader {
  if (!checksumHolds(block)) throw malformed('a header has a wrong checksum')
  const magic = text(block, 257, 8, false)
  const prefixBytes = magic !== 'ustar\x0000' ? 0 : text(block, 508, 4, false) === 'tar\0' ? 131 : 155
  const prefix = text(block, 345, prefixBytes)
  const name = text(block, 0, 100)
  return {
    flag: text(block, 156, 1, false),
    name: prefix === '' ? name : `${prefix}/${name}`,
    linkName: text(block, 157, 100),
    mode: number(block, 100, 8, 'mode') & 0o7777,
    uid: within(number(block, 108, 8, 'uid'), MAX_ID, 'uid'),
    gid: within(number(block, 116, 8, 'gid'), MAX_ID, 'gid'),
    size: numberIn(block, 124, 12, 'size'),
    mtime: BigInt(number(block, 136, 12, 'time')) * 1_000_000_000n,
    major: magic.startsWith('ustar') ? within(number(block, 329, 8, 'device'), 0xffff_ffff, 'device') : 0,
    minor: magic.startsWith('ustar') ? within(number(block, 337, 8, 'device'), 0xffff_ffff, 'device') : 0,
  }
}

/** A block of zeros: two of them end an archive. */
export function isZeroBlock(block: Buffer): boolean {
  return block[0] === 0 && block.every((byte) => byte === 0)
}

/** The name a long-name block carries: all up to the first NUL. */
export function parseLongName(content: Buffer): ByteString {
  return text(content, 0, content.length)
}

/** @throws {Fault} `invalid-argument` for a number that is negative or beyond `max` */
function within(value: number, max: number, what: string): number {
  if (!Number.isSafeInteger(value) || value < 0 || value > max) throw malformed(`a ${what} of ${value} is out of range`)
  return value
}

/** The fault of an archive that breaks the format. */
export function malformed(state: string): Fault {
  return new Fault('invalid-argument', `Cannot read the archive: ${state}`)
}

function text(block: Buffer, offset: number, length: number, terminated = true): ByteString {
  const end = terminated ? block.indexOf(0, offset) : -1
  return block.toString('latin1', offset, end < 0 || end > offset + length ? offset + length : end)
}

/** The sum counts its own field as spaces; some old writers summed signed bytes. */
function checksumHolds(block: Buffer): boolean {
  const stored = number(block, 148, 8, 'checksum')
  let sum = 8 * 32
  for (let index = 0; index < BLOCK; index++) {
    if (index === 148) index = 156
    sum += block[index] ?? 0
  }
  if (stored === sum) return true
  const negative = block.filter((byte, index) => byte > 127 && (index < 148 || index >= 156)).length
  return stored === sum - 256 * negative
}

/** @throws {Fault} `invalid-argument` for a number that is negative or too large to count with */
export function numberIn(block: Buffer, offset: number, length: number, what: string): number {
  return within(number(block, offset, length, what), Number.MAX_SAFE_INTEGER, what)
}

/** Octal text, or a big-endian two's complement number when the top bit of the first byte is set. */
function number(block: Buffer, offset: number, length: number, what: string): number {
  const first = block[offset] ?? 0
  if ((first & 0x80) === 0) {
    let [start, end] = [offset, offset + length]
    while (start < end && isBlank(block[start])) start++
    while (start < end && isBlank(block[end - 1])) end--
    let value = 0
    for (let index = start; index < end; index++) {
      const digit = (block[index] ?? 0) - 0x30
      if (digit < 0 || digit > 7) throw malformed(`a ${what} is not a number`)
      value = value * 8 + digit
    }
    return value
  }
  let value = BigInt(first & 0x3f) - ((first & 0x40) === 0 ? 0n : 64n)
  for (let index = 1; index < length; index++) value = value * 256n + BigInt(block[offset + index] ?? 0)
  if (value > Number.MAX_SAFE_INTEGER || value < Number.MIN_SAFE_INTEGER) throw malformed(`a ${what} is out of range`)
  return Number(value)
}

function isBlank(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0
}
