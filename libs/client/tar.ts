import { addAbortListener, once } from 'node:events'
import { Fault, isFault } from '@gantry/model/fault'
import { extract, type Header, pack } from 'tar-stream'
import { type CopyEntry, type CopyKind, fromText, toText } from './copy-entry.ts'

/** One entry of an archive. Nothing of it is to be believed. */
export interface TarEntry {
  readonly header: Header
  /** What is not read before the next entry is asked for is skipped. */
  readonly body: AsyncIterable<Uint8Array>
}

/**
 * The entries of a tar, as it arrives.
 *
 * @param signal ends it also while nothing arrives
 * @throws {Fault} `invalid-argument` for what is no tar; whatever `source` throws
 */
export async function* readTar(source: AsyncIterable<Uint8Array>, signal: AbortSignal): AsyncGenerator<TarEntry> {
  signal.throwIfAborted()
  const tar = extract()
  using _stop = addAbortListener(signal, () => tar.destroy(signal.reason))
  let failure: unknown
  tar.on('error', (error) => {
    failure = error
  })
  void feed(source, tar)
  try {
    for await (const entry of tar) {
      yield { header: entry.header, body: bodyOf(entry, (error) => malformed(failure ?? error)) }
      entry.resume()
    }
  } catch (error) {
    throw malformed(error)
  } finally {
    tar.destroy()
  }
}

const KINDS: Readonly<Partial<Record<string, CopyKind>>> = {
  file: 'file',
  'contiguous-file': 'file',
  link: 'hard-link',
  symlink: 'symlink',
  directory: 'folder',
  fifo: 'fifo',
  'character-device': 'character',
  'block-device': 'block',
}

const TYPES = {
  file: 'file',
  'hard-link': 'link',
  symlink: 'symlink',
  folder: 'directory',
  fifo: 'fifo',
  character: 'character-device',
  block: 'block-device',
} as const satisfies Record<CopyKind, string>

/** The entries of a tar as they are copied; kinds that no tree has are left out. @throws {Fault} as `readTar` */
export async function* unpackEntries(
  source: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): AsyncGenerator<CopyEntry> {
  for await (const { header, body } of readTar(source, signal)) {
    const { name, linkname, mode = 0o644, uid = 0, gid = 0, size = 0, mtime, devmajor = 0, devminor = 0 } = header
    const kind = KINDS[header.type ?? 'file']
    if (kind === undefined) continue
    yield {
      ...{ kind, path: fromText(name), link: fromText(linkname ?? ''), mode: mode & 0o7777, uid, gid, body },
      ...{ size: kind === 'file' ? size : 0, major: devmajor, minor: devminor },
      mtime: BigInt(mtime?.getTime() ?? 0) * 1_000_000n,
    }
  }
}

const MAX_AHEAD = 256 // the packer does not tell when it has enough entries without a body

/** Entries as a tar. A name that is no UTF-8 is not kept byte by byte. */
export async function* packEntries(entries: AsyncIterable<CopyEntry>, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const tar = pack()
  const over = new AbortController()
  const stop = AbortSignal.any([signal, over.signal])
  let ahead = 0 // entries that are packed and not read; each is a chunk at least
  let wake = (): void => undefined
  const write = async (): Promise<void> => {
    for await (const entry of entries) {
      ahead++
      await add(tar, entry, stop)
      while (ahead > MAX_AHEAD && !stop.aborted) await new Promise<void>((resolve) => (wake = resolve))
    }
    tar.finalize()
  }
  const writing = write().catch(
    (error: unknown) => void tar.destroy(error instanceof Error ? error : new Error(String(error))),
  )
  try {
    for await (const chunk of tar) {
      if (chunk instanceof Uint8Array) yield chunk
      ahead = Math.max(0, ahead - 1)
      wake()
    }
  } finally {
    over.abort()
    tar.destroy()
    wake()
    await writing // it has let go of what it read
  }
}

async function add(tar: ReturnType<typeof pack>, entry: CopyEntry, signal: AbortSignal): Promise<void> {
  const { kind, path, link, mode, uid, gid, size, mtime, major, minor } = entry
  const sink = tar.entry({
    ...{ name: `${toText(path)}${kind === 'folder' ? '/' : ''}`, type: TYPES[kind], mode, uid, gid, size },
    mtime: new Date(Number(mtime / 1_000_000n)),
    ...(link !== '' && { linkname: toText(link) }),
    ...((kind === 'character' || kind === 'block') && { devmajor: major, devminor: minor }),
  })
  if (kind !== 'file') return
  sink.on('error', () => undefined) // the reader of the tar sees it
  for await (const chunk of entry.body) {
    signal.throwIfAborted()
    if (!sink.write(chunk)) await once(sink, 'drain', { signal })
  }
  const finished = once(sink, 'finish', { signal })
  sink.end(undefined)
  await finished
}

async function* bodyOf(entry: AsyncIterable<unknown>, cause: (error: unknown) => unknown): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of entry) if (chunk instanceof Uint8Array) yield chunk
  } catch (error) {
    throw cause(error)
  }
}

/** Gives the tar reader its bytes, no faster than it takes them; never fails: the tar reader does. */
async function feed(source: AsyncIterable<Uint8Array>, tar: ReturnType<typeof extract>): Promise<void> {
  const closed = new AbortController()
  tar.once('close', () => closed.abort())
  try {
    for await (const chunk of source) {
      if (closed.signal.aborted) return
      if (!tar.write(chunk)) await once(tar, 'drain', { signal: closed.signal }).catch(() => undefined)
    }
    tar.end(undefined)
  } catch (error) {
    tar.destroy(error instanceof Error ? error : new Error(String(error)))
  }
}

function malformed(error: unknown): unknown {
  if (isFault(error) || !(error instanceof Error) || !TAR_ERRORS.test(error.message)) return error
  const why = `it is no tar, or cut off: ${error.message}`
  return new Fault('invalid-argument', `Cannot read the archive: ${why}`, { cause: error })
}

/** What tar-stream says of bytes that make no sense; it has no codes. */
const TAR_ERRORS = /^(?:Unexpected end of data|Invalid|Header exceeds|Stream was destroyed)/
