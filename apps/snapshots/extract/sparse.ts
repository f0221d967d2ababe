import { Fault } from '@gantry/model/fault'
import type { Limits } from './limits.ts'
import type { PaxRecords } from './pax.ts'
import { type ByteString, malformed, numberIn } from './tar-header.ts'

const SPARSE = 'GNU.sparse.'
const LINE_END = 0x0a
export const FRAGMENT_BYTES = 24 // of one in a block: offset and size, 12 each

/** A stretch of content, and where in the file it belongs. */
export interface Fragment {
  readonly offset: number
  readonly size: number
}

/** A file with holes: what is there of it, in order, and its whole size. */
export interface SparseFile {
  readonly fragments: readonly Fragment[]
  readonly size: number
}

/** What the extended header of a file with holes says. Its map may stand there, or at the start of the content. */
export interface SparseHeader {
  readonly size: number
  readonly name: ByteString | undefined
  readonly fragments: readonly Fragment[] | undefined
}

/**
 * Reads the encodings 0.0, 0.1 and 1.0; undefined when the entry uses none of them.
 * @see https://www.gnu.org/software/tar/manual/html_section/Sparse-Formats.html
 */
export function sparseHeaderOf(records: PaxRecords): SparseHeader | undefined {
  if (records.size === 0) return undefined
  const of = (key: string): string | undefined => records.get(SPARSE + key)?.toString('latin1')
  const [major, minor, map] = [of('major'), of('minor'), of('map')]
  const isFirst = major === '1' && minor === '0'
  if (!isFirst && map === undefined) {
    if (major === undefined) return undefined
    throw malformed('a file has holes in an encoding that nobody knows')
  }
  const size = decimal((isFirst ? of('realsize') : undefined) ?? of('size') ?? of('realsize'))
  return { size, name: of('name'), fragments: isFirst ? undefined : pairs((map ?? '').split(',')) }
}

/** The map in the old GNU header, as far as it stands in this block. */
export function oldFragments(block: Buffer, where: 'header' | 'extension') {
  const [start, count, more] = where === 'header' ? [386, 4, 482] : [0, 21, 504]
  const fragments: Fragment[] = []
  for (let at = start; at < start + count * FRAGMENT_BYTES && block[at] !== 0; at += FRAGMENT_BYTES)
    fragments.push({ offset: numberIn(block, at, 12, 'hole'), size: numberIn(block, at + 12, 12, 'hole') })
  return { fragments, goesOn: block[more] !== 0 }
}

/** The whole size of a file, in the old GNU header. */
export function oldSize(block: Buffer): number {
  return numberIn(block, 483, 12, 'size')
}

/** The map at the start of the content, encoding 1.0: numbers in lines, how many pairs first, filled up to a block. */
export interface MapInContent {
  /** What has come of it so far. */
  readonly blocks: Buffer[]
  /** Ends of lines in those that were looked at. */
  lines: number
}

/** What the map says, when it is whole with its last block. To be called after each block. */
export function fragmentsIn(map: MapInContent): Fragment[] | undefined {
  for (const byte of map.blocks.at(-1) ?? []) if (byte === LINE_END) map.lines++
  if (map.lines === 0) return undefined
  const count = decimal(map.blocks[0]?.toString('latin1').split('\n', 1)[0])
  if (map.lines < 1 + 2 * count) return undefined
  const lines = Buffer.concat(map.blocks).toString('latin1').split('\n')
  return pairs(lines.slice(1, 1 + 2 * count))
}

/**
 * @param stored bytes of content that come
 * @throws {Fault} `invalid-argument` for a map that is out of order or does not fit, `resource-exhausted` for a file larger
 *   than a layer may be
 */
export function checkSparse({ fragments, size }: SparseFile, stored: number, limits: Limits): void {
  if (size > limits.plainBytes)
    throw new Fault(
      'resource-exhausted',
      `Cannot extract the layer: a file with holes is ${size} bytes long and ${limits.plainBytes} is the most`,
    )
  let [end, sum] = [0, 0]
  for (const fragment of fragments) {
    const isNext = fragment.offset >= end && fragment.size >= 0 && fragment.offset + fragment.size <= size
    if (!isNext) throw malformed('the holes of a file are out of order')
    end = fragment.offset + fragment.size
    sum += fragment.size
  }
  if (sum !== stored) throw malformed('the holes of a file do not fit its content')
}

/** Hands content on in pieces that each have their place in the file. */
export function createScatter(fragments: readonly Fragment[], data: (bytes: Buffer, position: number) => void) {
  let [index, done] = [0, 0]
  return (content: Buffer): void => {
    for (let offset = 0; offset < content.length; ) {
      const fragment = fragments[index]
      if (!fragment) return
      const piece = content.subarray(offset, offset + fragment.size - done)
      if (piece.length > 0) data(piece, fragment.offset + done)
      offset += piece.length
      done += piece.length
      if (done === fragment.size) [index, done] = [index + 1, 0]
    }
  }
}

function pairs(numbers: readonly string[]): Fragment[] {
  if (numbers.length % 2 !== 0) throw malformed('the holes of a file are no pairs of numbers')
  const fragments: Fragment[] = []
  for (let at = 0; at < numbers.length; at += 2)
    fragments.push({ offset: decimal(numbers[at]), size: decimal(numbers[at + 1]) })
  return fragments
}

function decimal(text: string | undefined): number {
  if (text === undefined || !/^[0-9]{1,15}$/.test(text)) throw malformed('the holes of a file are no numbers')
  return Number(text)
}
