import { once } from 'node:events'
import { createReadStream } from 'node:fs'
import { Fault } from '@gantry/model/fault'
import { pack } from 'tar-stream'

const CHUNK = 256 * 1024 // bytes read at once
const LARGE = 64 * 1024 // bytes; what is smaller may share its memory
const EPOCH = new Date(0)

/** One entry to write: a folder, a document, or a file that is on disk. */
export type TarEntry =
  | { readonly name: string; readonly kind: 'folder' }
  | { readonly name: string; readonly kind: 'bytes'; readonly bytes: Uint8Array }
  | { readonly name: string; readonly kind: 'file'; readonly path: string; readonly size: bigint }

/**
 * A tar of these entries, ordered by their names and without anything of when or by whom: the same entries are the same
 * bytes. Files are read when their turn comes. A chunk is good until the next one is asked for.
 *
 * @throws {Fault} `data-loss` when a file is not as long as it should be
 */
export async function* writeTar(entries: readonly TarEntry[], signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const tar = pack()
  const over = new AbortController()
  const stop = AbortSignal.any([signal, over.signal])
  const write = async (): Promise<void> => {
    for (const entry of [...entries].sort((a, b) => (a.name < b.name ? -1 : 1))) await add(tar, entry, stop)
    tar.finalize()
  }
  write().catch((error: unknown) => tar.destroy(error instanceof Error ? error : new Error(String(error))))
  try {
    for await (const chunk of tar)
      if (chunk instanceof Uint8Array) {
        yield chunk
        release(chunk)
      }
  } finally {
    over.abort()
    tar.destroy()
  }
}

async function add(tar: ReturnType<typeof pack>, entry: TarEntry, signal: AbortSignal): Promise<void> {
  const common = { name: entry.name, mtime: EPOCH, uid: 0, gid: 0 }
  if (entry.kind === 'folder') {
    tar.entry({ ...common, name: `${entry.name}/`, type: 'directory', mode: 0o755, size: 0 })
    return
  }
  const size = entry.kind === 'bytes' ? entry.bytes.length : Number(entry.size)
  const sink = tar.entry({ ...common, type: 'file', mode: 0o444, size })
  sink.on('error', () => undefined) // the reader of the tar sees it
  let written = 0
  for await (const chunk of entry.kind === 'bytes' ? [entry.bytes] : readFile(entry.path, signal)) {
    written += chunk.length
    if (written > size) break
    if (!sink.write(chunk)) await once(sink, 'drain', { signal })
  }
  if (written !== size)
    throw new Fault('data-loss', `Cannot read ${entry.name}: it has not the ${size} bytes it should`)
  const finished = once(sink, 'finish', { signal })
  sink.end(undefined)
  await finished
}

async function* readFile(path: string, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  for await (const chunk of createReadStream(path, { highWaterMark: CHUNK, signal })) yield chunk
}

/** Gives the memory of a large chunk back at once: the collector sees late how much lies outside its heap. */
function release({ buffer, length }: Uint8Array): void {
  if (buffer instanceof ArrayBuffer && length >= LARGE && length === buffer.byteLength) buffer.transfer(0)
}
