import { once } from 'node:events'
import { Fault, isFault } from '@gantry/model/fault'
import { extract, type Header } from 'tar-stream'

/** One entry of an archive. Nothing of it is to be believed. */
export interface TarEntry {
  readonly header: Header
  /** What is not read before the next entry is asked for is skipped. */
  readonly body: AsyncIterable<Uint8Array>
}

/** The entries of a tar, as it arrives. @throws {Fault} `invalid-argument` for what is no tar; whatever `source` throws */
export async function* readTar(source: AsyncIterable<Uint8Array>): AsyncGenerator<TarEntry> {
  const tar = extract()
  const fed = feed(source, tar)
  fed.catch(() => undefined)
  try {
    for await (const entry of tar) {
      yield { header: entry.header, body: bodyOf(entry) }
      entry.resume()
    }
    await fed
  } catch (error) {
    throw malformed(error)
  } finally {
    tar.destroy()
  }
}

async function* bodyOf(entry: AsyncIterable<unknown>): AsyncGenerator<Uint8Array> {
  for await (const chunk of entry) if (chunk instanceof Uint8Array) yield chunk
}

/** Gives the tar reader its bytes, no faster than it takes them; a failure is its reader's to hear. */
async function feed(source: AsyncIterable<Uint8Array>, tar: ReturnType<typeof extract>): Promise<void> {
  const closed = new AbortController()
  tar.once('close', () => closed.abort())
  tar.on('error', () => undefined)
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

/** The tar reader tells what is wrong in plain errors; errors with a code or a name of their own come from elsewhere. */
function malformed(error: unknown): unknown {
  if (isFault(error) || !(error instanceof Error) || error.name !== 'Error' || 'code' in error) return error
  return new Fault('invalid-argument', `Cannot read the archive: ${error.message}`, { cause: error })
}
