/**
 * How a key (a tuple of strings) becomes the bytes that LMDB orders.
 *
 *   part   = UTF-8, where the bytes 00 and 01 become 01 01 and 01 02      (an escape sorts above the end of a part)
 *   key    = part 00 part 00 ... 00
 *   prefix = the key of the leading parts: every longer key starts with exactly these bytes
 *
 * So keys sort by the UTF-8 bytes of their first part, then of the second, and no character can fake a border.
 */
import { Fault } from '@gantry/model/fault'

/** Names a record inside its table, such as `[namespace, name]`. */
export type Key = readonly string[]

/** The most an encoded key may take, in bytes; LMDB's own limit at 4 KiB pages is 1978. */
export const MAX_KEY_BYTES = 1900

const END = 0x00
const ESCAPE = 0x01
const BEYOND_ASCII = /[\u0080-\u00ff]/

/** @throws {Fault} `invalid-argument` when the key has no parts, is too long or is not well-formed Unicode */
export function encodeKey(table: string, key: Key): Buffer {
  if (key.length === 0) throw new Fault('invalid-argument', `Cannot use an empty key in ${table}`)
  return encodeParts([table, ...key])
}

/**
 * The bytes that every key below `prefix` starts with; all keys of the table when it is empty.
 * @throws {Fault} `invalid-argument` as `encodeKey`
 */
export function encodePrefix(table: string, prefix: Key): Buffer {
  return encodeParts([table, ...prefix])
}

/** The inverse of `encodeKey`, without the table. @param text one byte a character */
export function decodeKey(text: string): string[] {
  if (text.includes('\u0001') || BEYOND_ASCII.test(text)) return decodeBytes(Buffer.from(text, 'latin1'))
  return text.split('\u0000').slice(1, -1)
}

function decodeBytes(bytes: Uint8Array): string[] {
  const parts: string[] = []
  let start = 0
  for (let end = bytes.indexOf(END); end !== -1; end = bytes.indexOf(END, start)) {
    parts.push(decodePart(bytes.subarray(start, end)))
    start = end + 1
  }
  return parts.slice(1)
}

/** The first bytes after all keys that start with `prefix`, which ends with the end mark of a part. */
export function afterPrefix(prefix: Buffer): Buffer {
  const next = Buffer.from(prefix)
  next[next.length - 1] = END + 1
  return next
}

function encodeParts(parts: readonly string[]): Buffer {
  const bytes = Buffer.concat(parts.map(encodePart))
  if (bytes.length > MAX_KEY_BYTES)
    throw new Fault(
      'invalid-argument',
      `Cannot use a name of ${bytes.length} bytes in ${parts[0]}: at most ${MAX_KEY_BYTES} are stored`,
    )
  return bytes
}

function encodePart(part: string): Buffer {
  if (!part.isWellFormed())
    throw new Fault('invalid-argument', `Cannot use the name ${JSON.stringify(part)}: it is not valid Unicode`)
  const escaped = part.replaceAll('\u0001', '\u0001\u0002').replaceAll('\u0000', '\u0001\u0001')
  return Buffer.from(`${escaped}\u0000`)
}

function decodePart(bytes: Uint8Array): string {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString()
  return bytes.includes(ESCAPE) ? text.replaceAll('\u0001\u0001', '\u0000').replaceAll('\u0001\u0002', '\u0001') : text
}
