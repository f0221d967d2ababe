import { Fault } from '@gantry/model/fault'
import { show } from './layer-path.ts'
import type { Limits } from './limits.ts'
import { boundTime, type PaxRecords, parsePax, paxName, paxNumber, paxTime, paxXattrs } from './pax.ts'
import {
  checkSparse,
  createScatter,
  FRAGMENT_BYTES,
  type Fragment,
  fragmentsIn,
  type MapInContent,
  oldFragments,
  oldSize,
  sparseHeaderOf,
} from './sparse.ts'
import {
  BLOCK,
  type Entry,
  type EntryType,
  isZeroBlock,
  malformed,
  parseHeader,
  parseLongName,
  type RawHeader,
} from './tar-header.ts'

/** Receives an archive. All calls are synchronous and in order: entry, its data in pieces, end. */
export interface TarHandler {
  entry(entry: Entry): void
  /** Content of the entry, in order, and its place in the file. A view that is only good during the call. */
  data(bytes: Buffer, position: number): void
  end(): void
}

/** What comes next in the archive. `left` counts the bytes still to come. */
export type Next =
  | { readonly wants: 'header' | 'second-zero' | 'nothing' }
  | { readonly wants: 'extension'; readonly flag: string; readonly size: number }
  | { readonly wants: 'old-holes'; readonly file: OldSparseFile }
  | { readonly wants: 'holes'; readonly file: SparseFile }
  | { readonly wants: 'content'; readonly place: Place; readonly left: number; readonly padding: number }
  | { readonly wants: 'padding'; readonly left: number }

/** Takes content; undefined to skip it. */
type Place = ((content: Buffer) => void) | undefined

/** A file whose map of holes goes on in the next block. */
interface OldSparseFile {
  readonly raw: RawHeader
  readonly size: number
  readonly fragments: Fragment[]
}

/** A file whose map of holes stands before its content. */
interface SparseFile {
  readonly entry: Entry
  /** Bytes in the archive, those of the map included. */
  readonly stored: number
  readonly map: MapInContent
}

/** Puts entries together from their blocks. Each method takes what was wanted, and answers what comes next. */
export interface EntryReader {
  header(block: Buffer): Next
  extension(flag: string, content: Buffer): Next
  oldHoles(file: OldSparseFile, block: Buffer): Next
  holes(file: SparseFile, block: Buffer): Next
}

const TYPES: Readonly<Record<string, EntryType>> = {
  '\0': 'file',
  '0': 'file',
  '7': 'file', // contiguous: a wish about the disk
  '1': 'hard-link',
  '2': 'symlink',
  '3': 'character',
  '4': 'block',
  '5': 'folder',
  '6': 'fifo',
  S: 'file',
}
const OLD_SPARSE = 'S'
const LONG_NAME = 'L'
const LONG_LINK = 'K'
const PAX = 'x'
const PAX_GLOBAL = 'g' // commit ids of git archives and the like; layers give it no meaning

/** What extended headers say about the entry that follows them. */
interface Extensions {
  pax: PaxRecords
  name: string | undefined
  linkName: string | undefined
}

const NO_PAX: PaxRecords = new Map()
const none = (): Extensions => ({ pax: NO_PAX, name: undefined, linkName: undefined })

export function createEntryReader(handler: TarHandler, limits: Limits): EntryReader {
  let extensions = none()
  let headers = 0

  function header(block: Buffer): Next {
    if (isZeroBlock(block)) return { wants: 'second-zero' }
    if (++headers > limits.entries)
      throw new Fault('resource-exhausted', `Cannot extract the layer: it has more than ${limits.entries} entries`)
    const raw = parseHeader(block)
    if (raw.flag === PAX_GLOBAL) return contentOf(raw.size, undefined)
    if (raw.flag === PAX || raw.flag === LONG_NAME || raw.flag === LONG_LINK) return extensionOf(raw, limits)
    if (raw.flag === OLD_SPARSE)
      return oldMap({ raw, size: oldSize(block), fragments: [] }, oldFragments(block, 'header'))
    const entry = merge(raw, extensions, limits)
    const { pax } = extensions
    extensions = none()
    const stored = entry.type === 'file' ? (paxNumber(pax, 'size') ?? raw.size) : 0
    const sparse = entry.type === 'file' ? sparseHeaderOf(pax) : undefined
    if (!sparse) return begin({ ...entry, size: stored }, [{ offset: 0, size: stored }], stored)
    const { size, name = entry.name, fragments } = sparse
    if (fragments) return beginSparse({ ...entry, name, size }, fragments, stored)
    return { wants: 'holes', file: { entry: { ...entry, name, size }, stored, map: { blocks: [], lines: 0 } } }
  }

  /** The entry is whole: its content comes. */
  function begin(entry: Entry, fragments: readonly Fragment[], stored: number): Next {
    handler.entry(entry)
    if (stored === 0) handler.end()
    return contentOf(stored, createScatter(fragments, handler.data))
  }

  function beginSparse(entry: Entry, fragments: readonly Fragment[], stored: number): Next {
    checkSparse({ fragments, size: entry.size }, stored, limits)
    return begin(entry, fragments, stored)
  }

  function oldMap(file: OldSparseFile, { fragments, goesOn }: ReturnType<typeof oldFragments>): Next {
    file.fragments.push(...fragments)
    boundMap(file.fragments.length * FRAGMENT_BYTES, limits)
    if (goesOn) return { wants: 'old-holes', file }
    const entry = merge(file.raw, extensions, limits)
    extensions = none()
    return beginSparse({ ...entry, size: file.size }, file.fragments, file.raw.size)
  }

  return {
    header,
    extension(flag, content) {
      if (flag === PAX) extensions.pax = parsePax(Buffer.from(content))
      else if (flag === LONG_NAME) extensions.name = parseLongName(content)
      else extensions.linkName = parseLongName(content)
      return paddingOf(content.length)
    },
    oldHoles: (file, block) => oldMap(file, oldFragments(block, 'extension')),
    holes({ entry, stored, map }, block) {
      map.blocks.push(Buffer.from(block))
      const size = map.blocks.length * BLOCK
      boundMap(size, limits)
      if (stored < size) throw malformed('the holes of a file do not fit its content')
      const fragments = fragmentsIn(map)
      return fragments ? beginSparse(entry, fragments, stored - size) : { wants: 'holes', file: { entry, stored, map } }
    },
  }
}

function boundMap(size: number, { extendedBytes }: Limits): void {
  if (size > extendedBytes)
    throw new Fault(
      'resource-exhausted',
      `Cannot extract the layer: the holes of a file take over ${extendedBytes} bytes to tell`,
    )
}

function extensionOf({ flag, size }: RawHeader, { extendedBytes }: Limits): Next {
  if (size > extendedBytes)
    throw new Fault(
      'resource-exhausted',
      `Cannot extract the layer: an extended header takes ${size} bytes and ${extendedBytes} is the most`,
    )
  return size === 0 ? { wants: 'header' } : { wants: 'extension', flag, size }
}

function contentOf(size: number, place: Place): Next {
  return size === 0 ? { wants: 'header' } : { wants: 'content', place, left: size, padding: size }
}

/** What fills the last block of `size` bytes up. */
export function paddingOf(size: number): Next {
  const left = (BLOCK - (size % BLOCK)) % BLOCK
  return left === 0 ? { wants: 'header' } : { wants: 'padding', left }
}

/** All but the size, which depends on holes. */
function merge(raw: RawHeader, { pax, name, linkName }: Extensions, limits: Limits): Entry {
  const type = raw.flag === '\0' && raw.name.endsWith('/') ? 'folder' : TYPES[raw.flag]
  if (!type) throw malformed(`"${raw.name}" is of the unknown type ${JSON.stringify(raw.flag)}`)
  const atime = paxTime(pax, 'atime')
  return {
    type,
    name: paxName(pax, 'path') ?? name ?? raw.name,
    linkName: paxName(pax, 'linkpath') ?? linkName ?? raw.linkName,
    mode: raw.mode,
    uid: idOf(paxNumber(pax, 'uid') ?? raw.uid),
    gid: idOf(paxNumber(pax, 'gid') ?? raw.gid),
    size: 0,
    mtime: boundTime(paxTime(pax, 'mtime') ?? raw.mtime),
    atime: atime === undefined ? undefined : boundTime(atime),
    major: raw.major,
    minor: raw.minor,
    xattrs: bounded(paxXattrs(pax), limits),
  }
}

function bounded(xattrs: Entry['xattrs'], { xattrBytes }: Limits): Entry['xattrs'] {
  for (const [name, { length }] of xattrs)
    if (length > xattrBytes)
      throw new Fault(
        'resource-exhausted',
        `Cannot extract the layer: an attribute ${show(name)} takes ${length} bytes and ${xattrBytes} is the most`,
      )
  return xattrs
}

function idOf(id: number): number {
  if (id > 0xffff_fffe) throw malformed(`an owner of ${id} is out of range`)
  return id
}
