import { once } from 'node:events'
import type { Socket } from 'node:net'
import { Fault } from '@gantry/model/fault'
import { CLOSED, DATA, encodeFrame, MAX_FRAME_BYTES, NO_DATA } from './ttrpc-frame.ts'

const MAX_QUEUED = 512 * 1024 // bytes of one stream that wait for their reader

/** Messages of one stream on their way to their reader. */
export interface Inbox extends AsyncIterable<Uint8Array> {
  /**
   * Adds a message, which is dropped when the reader has gone.
   * @returns when there is room for the next one: ttrpc has no flow control but that of its connection
   */
  push(message: Uint8Array): Promise<void>
  /** No message follows; with an error, the reader gets that after the last one. */
  end(error?: unknown): void
}

/** It is read once, from start to end. */
export function createInbox(): Inbox {
  const queue: Uint8Array[] = []
  let size = 0
  let state: 'open' | 'ended' | 'left' = 'open'
  let failure: unknown
  let wake = Promise.withResolvers<void>() // the reader: something came
  let room = Promise.withResolvers<void>() // the writer: something was taken
  const isOpen = (): boolean => state === 'open'
  async function* read(): AsyncGenerator<Uint8Array> {
    try {
      for (;;) {
        const message = queue.shift()
        if (message !== undefined) {
          size -= message.length
          room.resolve()
          yield message
        } else if (state === 'ended') {
          if (failure !== undefined) throw failure
          return
        } else {
          wake = Promise.withResolvers()
          await wake.promise
        }
      }
    } finally {
      state = 'left'
      queue.length = 0
      size = 0
      room.resolve()
    }
  }
  return {
    [Symbol.asyncIterator]: read,
    async push(message) {
      if (!isOpen()) return
      queue.push(message)
      size += message.length
      wake.resolve()
      while (size > MAX_QUEUED && isOpen()) {
        room = Promise.withResolvers()
        await room.promise
      }
    },
    end(error) {
      if (isOpen()) state = 'ended'
      failure = error
      wake.resolve()
      room.resolve()
    },
  }
}

/**
 * Sends the messages of one stream, as fast as the peer takes them, then says that there are no more; gives up quietly when
 * `signal` says so.
 *
 * @throws {Fault} `resource-exhausted` for a message that no frame can hold, and what the messages throw
 */
export async function sendAll(
  socket: Socket,
  streamId: number,
  messages: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<void> {
  for await (const message of messages) {
    if (signal.aborted || socket.destroyed) return
    if (message.length > MAX_FRAME_BYTES)
      throw new Fault('resource-exhausted', `Cannot send a message of ${message.length} bytes`)
    if (!socket.write(encodeFrame(streamId, DATA, message))) await drained(socket, signal)
  }
  if (!signal.aborted && !socket.destroyed)
    socket.write(encodeFrame(streamId, DATA, new Uint8Array(), CLOSED | NO_DATA))
}

/** Resolves as well when it can never be: whoever writes next finds out. */
async function drained(socket: Socket, signal: AbortSignal): Promise<void> {
  const over = new AbortController()
  const any = AbortSignal.any([signal, over.signal])
  await Promise.race([once(socket, 'drain', { signal: any }), once(socket, 'close', { signal: any })]).catch(
    () => undefined,
  )
  over.abort()
}
