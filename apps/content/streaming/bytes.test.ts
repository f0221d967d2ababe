import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { type Any, AnySchema } from '@bufbuild/protobuf/wkt'
import { DataSchema, WindowUpdateSchema } from '@gantry/api/containerd/types/transfer/streaming_pb'
import { encode, goneOf } from '@gantry/rpc/message'
import { expect, test } from 'vitest'
import { sendBytes } from './bytes.ts'

const LATE = 4 // messages that are under way

test.each([16 * 1024 * 1024, 100_000])(
  'bytes stay as they are until they are sent, with a window of %i',
  async (window) => {
    const pieces = Array.from({ length: 40 }, (_, at) => Buffer.alloc(1 + at * 2000, at))
    const sent: Uint8Array[] = []
    const underWay: unknown[] = []
    const deliver = (message: unknown): void => {
      const { typeUrl, value } = fromBinary(AnySchema, encode(AnySchema, message))
      expect(typeUrl).toBe(DataSchema.typeName)
      sent.push(Buffer.from(fromBinary(DataSchema, value).data))
      goneOf(message)?.()
    }
    async function* updates(): AsyncGenerator<Any> {
      const value = toBinary(WindowUpdateSchema, create(WindowUpdateSchema, { update: window }))
      for (let at = 0; at < 100; at++) {
        yield { $typeName: 'google.protobuf.Any', typeUrl: WindowUpdateSchema.typeName, value }
        await new Promise(setImmediate)
      }
    }
    const send = async (message: unknown): Promise<void> => {
      underWay.push(message)
      if (underWay.length > LATE) deliver(underWay.shift())
      await new Promise(setImmediate)
    }
    async function* bytes(): AsyncGenerator<Uint8Array> {
      yield* pieces
    }

    await sendBytes({ send, received: updates() }, bytes(), AbortSignal.timeout(20_000))

    underWay.forEach(deliver)
    expect(Buffer.concat(sent).equals(Buffer.concat(pieces))).toBe(true)
  },
)
