import { fromBinary } from '@bufbuild/protobuf'
import { type Any, EmptySchema } from '@bufbuild/protobuf/wkt'
import { StreamInitSchema, type Streaming } from '@gantry/api/containerd/services/streaming/v1/streaming_pb'
import { Fault } from '@gantry/model/fault'
import { NAMESPACE_HEADER } from '@gantry/rpc/context'
import type { Implementation } from '@gantry/rpc/service'
import type { Streams } from './streams.ts'

const MAX_ID = 1024 // characters

/**
 * containerd.services.streaming.v1.Streaming: a client opens a stream, learns that it is registered, and then names it
 * in another call. A call without namespace is taken for the empty one (behaviour facts, 15.1).
 */
export function streamingService(streams: Streams): Implementation<typeof Streaming> {
  return {
    async *stream(requests, context) {
      const received = requests[Symbol.asyncIterator]()
      const first = await received.next()
      const id = first.done ? '' : parseInit(first.value)
      if (id === '' || id.length > MAX_ID)
        throw new Fault('invalid-argument', 'the first message must be a StreamInit with an id')
      const namespace = context.header(NAMESPACE_HEADER) ?? ''
      using stream = streams.open({ namespace, id, lease: context.lease }, received, context.signal)
      yield { typeUrl: EmptySchema.typeName, value: new Uint8Array() }
      yield* stream.outgoing()
    },
  }
}

function parseInit({ typeUrl, value }: Any): string {
  if (typeNameOf(typeUrl) !== StreamInitSchema.typeName) return ''
  try {
    return fromBinary(StreamInitSchema, value).id
  } catch {
    return ''
  }
}

/** The message name of an Any, whether its URL has a host or not. */
export function typeNameOf(typeUrl: string): string {
  return typeUrl.slice(typeUrl.lastIndexOf('/') + 1)
}
