import { once } from 'node:events'
import { open } from 'node:fs/promises'
import { Fault } from '@gantry/model/fault'
import { pack } from 'tar-stream'

const CHUNK = 256 * 1024 // bytes read at once
const MAX_FREE = 4 // buffers that wait for their next use
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
  const buffers = createBuffers()
  const over = new AbortController()
  const stop = AbortSignal.any([signal, over.signal])
  const write = async (): Promise<void> => {
    for (const entry of [...entries].sort((a, b) => (a.name < b.name ? -1 : 1))) await add(tar, entry, buffers, stop)
    tar.finalize()
  }
  write().catch((error: unknown) => tar.destroy(error instanceof Error ? error : new Error(String(error))))
  try {
    for await (const chunk of tar)
      if (chunk instanceof Uint8Array) {
        yield chunk
        buffers.release(chunk)
      }
  } finally {
    over.abort()
    tar.destroy()
  }
}

async function add(
  tar: ReturnType<typeof pack>,
  entry: TarEntry,
  buffers: Buffers,
  signal: AbortSignal,
): Promise<void> {
  const common = { name: entry.name, mtime: EPOCH, uid: 0, gid: 0 }
  if (entry.kind === 'folder') {
    tar.entry({ ...common, name: `${entry.name}/`, type: 'directory', mode: 0o755, size: 0 })
    return
  }
  const size = entry.kind === 'bytes' ? entry.bytes.length : Number(entry.size)
  const sink = tar.entry({ ...common, type: 'file', mode: 0o444, size })
  sink.on('error', () => undefined) // the reader of the tar sees it
  let written = 0
  for await (const chunk of entry.kind === 'bytes' ? [entry.bytes] : readFile(entry.path, buffers)) {
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

async function* readFile(path: string, { take, release }: Buffers): AsyncGenerator<Uint8Array> {
  await using file = await open(path)
  for (;;) {
    const buffer = take()
    const { bytesRead } = await file.read(buffer)
    if (bytesRead === 0) return release(buffer)
    yield buffer.subarray(0, bytesRead)
  }
}

type Buffers = ReturnType<typeof createBuffers>

/** Memory to read files into, used again: the collector sees late how much lies outside its heap. */
function createBuffers() {
  const free: Buffer[] = []
  const ours = new WeakSet<ArrayBufferLike>()
  return {
    take(): Buffer {
      const buffer = free.pop() ?? Buffer.allocUnsafeSlow(CHUNK)
      ours.add(buffer.buffer)
      return buffer
    },
    /** Of a chunk that nobody reads any more, whoever made it. */
    release({ buffer }: Uint8Array): void {
      if (ours.has(buffer) && free.length < MAX_FREE) free.push(Buffer.from(buffer))
    },
  }
}
