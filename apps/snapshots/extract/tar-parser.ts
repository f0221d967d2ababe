import { Fault } from '@gantry/model/fault'
import type { Limits } from './limits.ts'
import { boundTime, isSparse, type PaxRecords, parsePax, paxName, paxNumber, paxTime, paxXattrs } from './pax.ts'
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
  /** A view that is only good during the call. */
  data(bytes: Buffer): void
  end(): void
}

export interface TarParser {
  /** The next bytes of the archive, cut anywhere. */
  push(chunk: Buffer): void
  /** No more bytes. @throws {Fault} `invalid-argument` when the archive stops in the middle of something */
  end(): void
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
}
const LONG_NAME = 'L'
const LONG_LINK = 'K'
const PAX = 'x'
const PAX_GLOBAL = 'g' // commit ids of git archives and the like; layers give it no meaning

/** What the parser waits for. `left` counts the bytes still to come. */
type State =
  | { readonly wants: 'header' | 'second-zero' | 'nothing' }
  | { readonly wants: 'extension'; readonly flag: string; readonly size: number; readonly left: number }
  | { readonly wants: 'content'; readonly skip: boolean; readonly left: number; readonly padding: number }
  | { readonly wants: 'padding'; readonly left: number }

/** What extended headers say about the entry that follows them. */
interface Extensions {
  pax: PaxRecords
  name: string | undefined
  linkName: string | undefined
}

const none = (): Extensions => ({ pax: new Map(), name: undefined, linkName: undefined })

/**
 * Takes an archive apart as its bytes come. Instead of a parser from the registry, because values of extended headers are
 * bytes here (capabilities are binary), times keep their nanoseconds, and every size is bounded before it is held in memory.
 *
 * Everything behind the end mark is let through unread.
 */
export function createTarParser(handler: TarHandler, limits: Limits): TarParser {
  let state: State = { wants: 'header' }
  let extensions = none()
  let headers = 0
  const held = createHolder()

  function onBlock(block: Buffer): State {
    if (state.wants === 'second-zero') {
      if (isZeroBlock(block)) return { wants: 'nothing' }
      throw malformed('it goes on after a block of zeros')
    }
    if (isZeroBlock(block)) return { wants: 'second-zero' }
    if (++headers > limits.entries)
      throw new Fault('resource-exhausted', `Cannot extract the layer: it has more than ${limits.entries} entries`)
    const raw = parseHeader(block)
    if (raw.flag === PAX_GLOBAL) return contentOf(raw.size, true)
    if (raw.flag === PAX || raw.flag === LONG_NAME || raw.flag === LONG_LINK) return extensionOf(raw, limits)
    const entry = merge(raw, extensions)
    extensions = none()
    handler.entry(entry)
    if (entry.size === 0) handler.end()
    return contentOf(entry.size, false)
  }

  function onExtension(flag: string, content: Buffer): void {
    if (flag === PAX) extensions.pax = parsePax(Buffer.from(content))
    else if (flag === LONG_NAME) extensions.name = parseLongName(content)
    else extensions.linkName = parseLongName(content)
  }

  /** Consumes some of `chunk` from `offset` and returns where to go on. */
  function step(chunk: Buffer, offset: number): number {
    switch (state.wants) {
      case 'header':
      case 'second-zero': {
        const [block, next] = held.take(chunk, offset, BLOCK)
        if (block) state = onBlock(block)
        return next
      }
      case 'extension': {
        const { flag, size } = state
        const [content, next] = held.take(chunk, offset, size)
        if (!content) return next
        onExtension(flag, content)
        state = paddingOf(size)
        return next
      }
      case 'content': {
        const piece = chunk.subarray(offset, offset + state.left)
        if (!state.skip) handler.data(piece)
        const left = state.left - piece.length
        if (left === 0 && !state.skip) handler.end()
        state = left === 0 ? paddingOf(state.padding) : { ...state, left }
        return offset + piece.length
      }
      case 'padding': {
        const taken = Math.min(state.left, chunk.length - offset)
        state = taken === state.left ? { wants: 'header' } : { wants: 'padding', left: state.left - taken }
        return offset + taken
      }
      case 'nothing':
        return chunk.length
    }
  }

  return {
    push(chunk) {
      for (let offset = 0; offset < chunk.length; ) offset = step(chunk, offset)
    },
    end() {
      const atBorder = state.wants === 'header' || state.wants === 'second-zero' || state.wants === 'nothing'
      if (!atBorder || held.holds()) throw malformed('it is cut off')
    },
  }
}

/** Collects a fixed number of bytes that may arrive in pieces. */
function createHolder() {
  let pieces: Buffer[] = []
  let length = 0
  return {
    holds: () => length > 0,
    take(chunk: Buffer, offset: number, size: number): readonly [Buffer | undefined, number] {
      const piece = chunk.subarray(offset, offset + size - length)
      const next = offset + piece.length
      if (length === 0 && piece.length === size) return [piece, next]
      pieces.push(Buffer.from(piece))
      length += piece.length
      if (length < size) return [undefined, next]
      const whole = Buffer.concat(pieces)
      pieces = []
      length = 0
      return [whole, next]
    },
  }
}

function extensionOf(raw: RawHeader, limits: Limits): State {
  if (raw.size > limits.extendedBytes)
    throw new Fault(
      'resource-exhausted',
      `Cannot extract the layer: an extended header takes ${raw.size} bytes and ${limits.extendedBytes} is the most`,
    )
  if (raw.size === 0) return { wants: 'header' }
  return { wants: 'extension', flag: raw.flag, size: raw.size, left: raw.size }
}

function contentOf(size: number, skip: boolean): State {
  return size === 0 ? { wants: 'header' } : { wants: 'content', skip, left: size, padding: size }
}

function paddingOf(size: number): State {
  const left = (BLOCK - (size % BLOCK)) % BLOCK
  return left === 0 ? { wants: 'header' } : { wants: 'padding', left }
}

function merge(raw: RawHeader, { pax, name, linkName }: Extensions): Entry {
  const type = raw.flag === '\0' && raw.name.endsWith('/') ? 'folder' : TYPES[raw.flag]
  if (raw.flag === 'S' || isSparse(pax))
    throw new Fault(
      'unimplemented',
      `Cannot extract "${raw.name}": files with holes in the archive are not supported yet`,
    )
  if (!type) throw malformed(`"${raw.name}" is of the unknown type ${JSON.stringify(raw.flag)}`)
  const atime = paxTime(pax, 'atime')
  return {
    type,
    name: paxName(pax, 'path') ?? name ?? raw.name,
    linkName: paxName(pax, 'linkpath') ?? linkName ?? raw.linkName,
    mode: raw.mode,
    uid: idOf(paxNumber(pax, 'uid') ?? raw.uid),
    gid: idOf(paxNumber(pax, 'gid') ?? raw.gid),
    size: type === 'file' ? (paxNumber(pax, 'size') ?? raw.size) : 0,
    mtime: boundTime(paxTime(pax, 'mtime') ?? raw.mtime),
    atime: atime === undefined ? undefined : boundTime(atime),
    major: raw.major,
    minor: raw.minor,
    xattrs: paxXattrs(pax),
  }
}

function idOf(id: number): number {
  if (id > 0xffff_fffe) throw malformed(`an owner of ${id} is out of range`)
  return id
}
