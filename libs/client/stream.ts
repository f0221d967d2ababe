import { randomBytes } from 'node:crypto'
import { type DescMessage, fromBinary, type MessageShape } from '@bufbuild/protobuf'
import { StreamInitSchema } from '@gantry/api/containerd/services/streaming/v1/streaming_pb'
import { Fault } from '@gantry/model/fault'
import { type Packed, pack, typeNameOf } from './any.ts'
import type { Wire } from './wire.ts'

const MAX_WAITING = 16 // messages we may have waiting to be sent

/** A stream that another call may name by its id, such as a transfer its progress. */
export interface Stream extends AsyncDisposable {
  readonly id: string
  /** What the server sends, until it closes the stream. */
  readonly messages: AsyncIterable<Packed>
  send(message: Packed): void
}

/**
 * Opens a stream and waits until the server knows its id. Disposing it ends it on both sides.
 *
 * @param prefix tells in logs what the stream is for
 */
export async function openStream(wire: Wire, prefix: string, signal: AbortSignal): Promise<Stream> {
  const id = `${prefix}-${process.hrtime.bigint()}-${randomBytes(3).toString('base64url')}`
  const closed = new AbortController()
  const outgoing = openOutgoing(pack(StreamInitSchema, { id }), closed.signal)
  const ended = AbortSignal.any([signal, closed.signal])
  const replies = wire.services.streaming.stream(outgoing.messages, wire.call(ended))[Symbol.asyncIterator]()
  const first = await replies.next()
  if (first.done) throw new Fault('unavailable', `Cannot open stream "${id}": the server closed it`)
  return {
    id,
    send: outgoing.send,
    messages: { [Symbol.asyncIterator]: () => replies },
    async [Symbol.asyncDispose]() {
      closed.abort()
    },
  }
}

/** Decodes the messages of one type and leaves out all others, as the protocol asks. */
export async function* messagesOf<S extends DescMessage>(stream: Stream, schema: S): AsyncIterable<MessageShape<S>> {
  for await (const any of stream.messages) if (typeNameOf(any) === schema.typeName) yield fromBinary(schema, any.value)
}

/** Messages to send as they are given, then quiet until the stream is closed: its end would end both directions. */
function openOutgoing(
  first: Packed,
  closed: AbortSignal,
): { messages: AsyncIterable<Packed>; send(message: Packed): void } {
  const waiting: Packed[] = [first]
  let wake = Promise.withResolvers<void>()
  closed.addEventListener('abort', () => wake.resolve(), { once: true })
  async function* messages(): AsyncIterable<Packed> {
    while (!closed.aborted) {
      const message = waiting.shift()
      if (message) yield message
      else {
        await wake.promise
        if (!closed.aborted) wake = Promise.withResolvers()
      }
    }
  }
  return {
    messages: messages(),
    send(message) {
      if (waiting.length >= MAX_WAITING) throw new Fault('resource-exhausted', 'Cannot send: the stream does not drain')
      waiting.push(message)
      wake.resolve()
    },
  }
}
