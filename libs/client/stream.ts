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
  /** @throws {Fault} `resource-exhausted` when too much waits already; `ready` tells when it does not */
  send(message: Packed): void
  /** Resolves when there is room to send, or the stream is closed. */
  ready(): Promise<void>
  /** Nothing more will be sent: what was, is complete. The server's side goes on. */
  end(): void
}

/**
 * Opens a stream and waits until the server knows its id. Disposing it ends it on both sides.
 *
 * @param prefix tells in logs what the stream is for
 */
export async function openStream(
  wire: Pick<Wire, 'services' | 'call'>,
  prefix: string,
  signal: AbortSignal,
): Promise<Stream> {
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
    ready: outgoing.ready,
    end: outgoing.end,
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

interface Outgoing extends Pick<Stream, 'send' | 'ready' | 'end'> {
  readonly messages: AsyncIterable<Packed>
}

/** Messages to send as they are given, then quiet until all is said or the stream is closed. */
function openOutgoing(first: Packed, closed: AbortSignal): Outgoing {
  const waiting: Packed[] = [first]
  let ended = false
  let changed = Promise.withResolvers<void>()
  const change = (): void => {
    changed.resolve()
    changed = Promise.withResolvers()
  }
  closed.addEventListener('abort', change, { once: true })
  async function* messages(): AsyncIterable<Packed> {
    while (!closed.aborted) {
      const message = waiting.shift()
      if (message) {
        change()
        yield message
      } else if (ended) return
      else await changed.promise
    }
  }
  return {
    messages: messages(),
    send(message) {
      if (waiting.length >= MAX_WAITING) throw new Fault('resource-exhausted', 'Cannot send: the stream does not drain')
      waiting.push(message)
      change()
    },
    async ready() {
      while (waiting.length >= MAX_WAITING && !closed.aborted) await changed.promise
    },
    end() {
      ended = true
      change()
    },
  }
}
