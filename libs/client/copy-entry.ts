import type { IdRange } from './spec-options.ts'

/** Text whose characters stand for one byte each: names of files need not be UTF-8. */
export type ByteString = string

export type CopyKind = 'file' | 'hard-link' | 'symlink' | 'folder' | 'fifo' | 'character' | 'block'

/** One thing that is copied, with numbers as its container sees them. Nothing of it is to be believed. */
export interface CopyEntry {
  readonly kind: CopyKind
  /** Below what is copied, without `.` and `..`. */
  readonly path: ByteString
  /** What a symbolic link says; for a hard link the path of an entry that came before; else empty. */
  readonly link: ByteString
  /** Permission bits with setuid, setgid and sticky. */
  readonly mode: number
  readonly uid: number
  readonly gid: number
  /** Bytes of a file. */
  readonly size: number
  /** Nanoseconds since 1970. */
  readonly mtime: bigint
  readonly major: number
  readonly minor: number
  /** Of a file; to be read before the next entry is asked for. */
  readonly body: AsyncIterable<Uint8Array>
}

/** Which ids a tree has on the host for those that its container knows. */
export interface Ids {
  readonly uids: readonly IdRange[]
  readonly gids: readonly IdRange[]
}

export const SAME_IDS: Ids = { uids: [], gids: [] }

const NOBODY = 65_534 // what the kernel shows for an id that is not mapped

/** Without ranges every id is the same on both sides. */
export function idOnHost(ranges: readonly IdRange[], id: number): number {
  return mapped(ranges, id, (range) => [range.container, range.host])
}

export function idInContainer(ranges: readonly IdRange[], id: number): number {
  return mapped(ranges, id, (range) => [range.host, range.container])
}

function mapped(ranges: readonly IdRange[], id: number, sides: (range: IdRange) => [number, number]): number {
  if (ranges.length === 0) return id
  for (const range of ranges) {
    const [from, to] = sides(range)
    if (id >= from && id < from + range.size) return id - from + to
  }
  return NOBODY
}

export function toText(bytes: ByteString): string {
  return Buffer.from(bytes, 'latin1').toString()
}

export function fromText(text: string): ByteString {
  return Buffer.from(text).toString('latin1')
}

export function joined(folder: ByteString, name: ByteString): ByteString {
  return folder === '' ? name : `${folder}/${name}`
}
