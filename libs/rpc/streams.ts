import { once } from 'node:events'
import type { Readable, Writable } from 'node:stream'

const MAX_QUEUED = 512 * 1024 // bytes of one call; grpc-js by itself queues 16 messages, however large
const MAX_TOTAL = 32 * 1024 * 1024 // bytes of all calls of this process together, roughly: they share it
const ROOM = Symbol('room') // event: less than that is queued again

let calls = 0 // that are written to now
const share = (): number => Math.min(MAX_QUEUED, MAX_TOTAL / calls)

/**
 * Writes every message to a call, and waits while too much of it is not on its way yet: a slow reader slows its producer
 * and costs little memory. Stops the producer when the call goes away.
 */
export async function writeAll(
  call: Writable,
  messages: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<void> {
  let queued = 0
  calls++
  try {
    for await (const message of messages) {
      if (signal.aborted) return
      queued += message.length
      const hasRoom = call.write(message, () => {
        queued -= message.length
        if (queued <= share()) call.emit(ROOM)
      })
      if (!hasRoom) await once(call, 'drain', { signal })
      while (queued > share()) await once(call, ROOM, { signal }) // an error of the call ends the wait as well
    }
  } finally {
    calls--
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
