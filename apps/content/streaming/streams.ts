import type { MessageInitShape } from '@bufbuild/protobuf'
import type { Any, AnySchema } from '@bufbuild/protobuf/wkt'
import { Fault } from '@gantry/model/fault'

const MAX_QUEUED = 16 // messages that wait for a client that is slow to read

/** One side of a stream that a client opened, for the call that the client then names it in. */
export interface Stream {
  /** Waits while the client is slow. What is sent to a client that is gone is dropped. */
  send(message: Outgoing): Promise<void>
  /** What the client sends after it named the stream. */
  readonly received: AsyncIterator<Any>
  /** Ends the client's call once it has what was sent. */
  close(): void
}

export type AnyInit = Pick<Any, 'typeUrl' | 'value'>

/** What is sent; it may be in bytes already. */
type Outgoing = AnyInit | MessageInitShape<typeof AnySchema>

/** A stream as its own call sees it. */
export interface OpenStream extends Disposable {
  /** What to send to the client, until this side closes or the client goes. */
  outgoing(): AsyncIterable<Outgoing>
}

/** Whose stream it is, and the lease it was opened under: it is collected with that (behaviour facts, 15.1). */
export interface StreamName {
  readonly namespace: string
  readonly id: string
  readonly lease?: string | undefined
}

/** The streams that are open now, by namespace and id. */
export interface Streams {
  /** @throws {Fault} `unknown` when the id is taken: that is how containerd answers */
  open(name: StreamName, received: AsyncIterator<Any>, signal: AbortSignal): OpenStream
  /** Those that are open; `end` closes that very one, and frees its name. */
  all(): Iterable<StreamName & { readonly end: () => void }>
  /** @throws {Fault} `not-found` */
  get(namespace: string, id: string): Stream
}

export function createStreams(): Streams {
  const streams = new Map<string, Stream & { readonly name: StreamName }>()
  return {
    open(name, received, signal) {
      const { namespace, id } = name
      const key = keyOf(namespace, id)
      if (streams.has(key)) throw new Fault('unknown', `stream ${JSON.stringify(id)}: already exists`)
      const queue = createQueue(signal)
      const stream = { name, received, send: queue.put, close: queue.close }
      streams.set(key, stream)
      return {
        outgoing: queue.take,
        [Symbol.dispose]() {
          if (streams.get(key) === stream) streams.delete(key)
          queue.drop()
        },
      }
    },
    *all() {
      for (const [key, stream] of streams) {
        const end = (): void => {
          if (streams.get(key) === stream) streams.delete(key)
          stream.close()
        }
        yield { ...stream.name, end }
      }
    },
    get(namespace, id) {
      const stream = streams.get(keyOf(namespace, id))
      if (!stream) throw new Fault('not-found', `stream ${JSON.stringify(id)}: not found`)
      return stream
    },
  }
}

/** What neither a header nor the other part of the name can make another one's. */
function keyOf(namespace: string, id: string): string {
  return `${namespace}\0${id}`
}

/** A bounded queue with one reader, who leaves when `signal` is aborted. */
function createQueue(signal: AbortSignal) {
  const waiting: Outgoing[] = []
  let state: 'open' | 'closed' | 'dropped' = 'open'
  let changed = Promise.withResolvers<void>()
  const change = (): void => {
    changed.resolve()
    changed = Promise.withResolvers<void>()
  }
  const drop = (): void => {
    state = 'dropped'
    change()
  }
  return {
    drop,
    async put(message: Outgoing): Promise<void> {
      while (state === 'open' && waiting.length >= MAX_QUEUED) await changed.promise
      if (state !== 'open') return
      waiting.push(message)
      change()
    },
    close(): void {
      if (state === 'open') state = 'closed'
      change()
    },
    async *take(): AsyncGenerator<Outgoing> {
      signal.addEventListener('abort', drop, { once: true })
      for (;;) {
        const message = waiting.shift()
        if (message) {
          change()
          yield message
        } else if (state === 'open' && !signal.aborted) await changed.promise
        else return
      }
    },
  }
}
