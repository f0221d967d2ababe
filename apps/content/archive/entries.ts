import { posix } from 'node:path'
import { readTar } from '@gantry/client/tar'
import { Fault } from '@gantry/model/fault'
import type { Header } from 'tar-stream'

const MAX_ENTRIES = 100_000
const MAX_NAME = 4096 // characters of a name or of what a link names
const MAX_NAMES = 16 * 1024 * 1024 // of all together: whoever reads the entries may have to remember them

/** One entry of an archive. Links are told, and never followed: they may only be other names of entries. */
export interface Entry {
  /** Relative, without `.` and `..`. */
  readonly name: string
  readonly kind: 'file' | 'link' | 'other'
  /** Bytes of the body, as the header says. */
  readonly size: number
  /** What a link names, relative to the top of the archive; undefined when that is nothing in it. */
  readonly target: string | undefined
  /** Read it before the next entry is asked for; what is left is skipped. */
  readonly body: AsyncIterable<Uint8Array>
}

/**
 * The entries of a tar, as it arrives.
 *
 * @throws {Fault} `invalid-argument` for what is no tar, is cut off, or has names that lead out of it;
 * `resource-exhausted` for too many entries, or too much in their names
 */
export async function* readEntries(source: AsyncIterable<Uint8Array>, signal: AbortSignal): AsyncGenerator<Entry> {
  let [count, names] = [0, 0]
  for await (const { header, body } of readTar(source, signal)) {
    if (++count > MAX_ENTRIES)
      throw new Fault('resource-exhausted', `Cannot read the archive: it has more than ${MAX_ENTRIES} entries`)
    names += header.name.length + (header.linkname ?? '').length
    if (names > MAX_NAMES)
      throw new Fault('resource-exhausted', `Cannot read the archive: its names have over ${MAX_NAMES} characters`)
    yield entryOf(header, body)
  }
}

function entryOf(header: Header, body: AsyncIterable<Uint8Array>): Entry {
  const { size, type } = header
  if (!Number.isSafeInteger(size) || size < 0) throw refuse(header.name, `it says that it has ${size} bytes`)
  const name = parseName(header.name)
  const kind =
    type === 'file' || type === 'contiguous-file' ? 'file' : type === 'symlink' || type === 'link' ? 'link' : 'other'
  return { name, kind, size, target: kind === 'link' ? targetOf(name, header) : undefined, body }
}

function parseName(text: string): string {
  if (text.length > MAX_NAME) throw refuse(text, 'its name is too long')
  if (text.includes('\0') || text.startsWith('/') || text.split('/').includes('..'))
    throw refuse(text, 'its name leads out of the archive')
  return posix.normalize(text).replace(/\/$/, '')
}

/** A symbolic link is relative to its folder, a hard link to the top. */
function targetOf(name: string, { type, linkname }: Header): string | undefined {
  const text = linkname || '' // null when there is none
  const path = posix.normalize(type === 'symlink' ? posix.join(posix.dirname(name), text) : text)
  const inside = text !== '' && text.length <= MAX_NAME && !text.startsWith('/') && !text.includes('\0')
  return inside && !path.startsWith('..') ? path : undefined
}

function refuse(name: string, why: string): Fault {
  return new Fault('invalid-argument', `Cannot read the archive: entry ${JSON.stringify(name.slice(0, 128))}: ${why}`)
}
