import { once } from 'node:events'
import type { Readable, Writable } from 'node:stream'

/**
 * Writes every message to a call and awaits its buffer whenever that is full, so that a slow reader slows its producer.
 * Stops the producer when the call goes away.
 */
export async function writeAll(
  call: Writable,
  messages: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<void> {
  for await (const message of messages) {
    if (signal.aborted) return
    if (!call.write(message)) await once(call, 'drain', { signal })
  }
}

/**
 * Reads the messages of a call. Reading starts here and now and not at the first `next`: grpc-js queues without bound
 * for a call that nobody reads. The end of the input does not tear down the output of a duplex call.
 */
export function readAll(call: Readable): AsyncIterableIterator<Buffer> {
  const messages = call.iterator({ destroyOnReturn: false })
  call.on('error', () => undefined) // the iterator reports it; an error after its consumer stopped is nobody's
  let first: Promise<IteratorResult<Buffer>> | undefined = messages.next()
  first.catch(() => undefined) // whoever reads it sees the error
  return {
    next() {
      const result = first ?? messages.next()
      first = undefined
      return result
    },
    return: () => messages.return?.() ?? Promise.resolve({ done: true, value: undefined }),
    [Symbol.asyncIterator]() {
      return this
    },
  }
}
