import { setTimeout as sleep } from 'node:timers/promises'
import { sendBytes } from './bytes.ts'
import type { Stream } from './streams.ts'

const MAX_WAITING = 256 * 1024 // characters for a client that is slow to read
const LAST_MS = 2000 // how long the end waits for such a client

/** Lines for a client. Nobody waits for it: what it does not read in time is left out, and it is told how much. */
export interface LogStream extends AsyncDisposable {
  write(text: string): void
}

/** Sends lines as an export sends its bytes, within the window that the client allows. */
export function openLogStream(stream: Pick<Stream, 'send' | 'received'>, signal: AbortSignal): LogStream {
  const stop = new AbortController()
  let waiting = ''
  let leftOut = 0
  let over = false
  let news = Promise.withResolvers<void>()

  async function* batches(): AsyncGenerator<Uint8Array> {
    for (;;) {
      const batch = Buffer.from(leftOut > 0 ? `${waiting}! ${leftOut} entries are left out: read faster\n\n` : waiting)
      waiting = ''
      leftOut = 0
      if (batch.length > 0) yield batch
      else if (over) return
      else await news.promise
      news = Promise.withResolvers()
    }
  }

  const end = (): void => {
    over = true
    news.resolve()
  }
  const sent = sendBytes(stream, batches(), AbortSignal.any([signal, stop.signal])).catch(end) // the client is gone
  return {
    write(text) {
      if (over) return
      if (waiting.length + text.length > MAX_WAITING) leftOut++
      else waiting += text
      news.resolve()
    },
    async [Symbol.asyncDispose]() {
      end()
      await Promise.race([sent, sleep(LAST_MS, undefined, { ref: false })])
      stop.abort()
      await sent
    },
  }
}
