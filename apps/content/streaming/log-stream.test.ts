import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { type Any, AnySchema } from '@bufbuild/protobuf/wkt'
import { DataSchema, WindowUpdateSchema } from '@gantry/api/containerd/types/transfer/streaming_pb'
import { encode } from '@gantry/rpc/message'
import { expect, test } from 'vitest'
import { openLogStream } from './log-stream.ts'

const forever = new AbortController().signal

/** A client that allows bytes when it is told to. */
function openClient() {
  const updates = new TransformStream<Any, Any>(undefined, { highWaterMark: 1000 })
  const writer = updates.writable.getWriter()
  let text = ''
  const stream = {
    received: updates.readable[Symbol.asyncIterator](),
    send: async (message: unknown) => {
      const { value } = fromBinary(AnySchema, encode(AnySchema, message))
      text += Buffer.from(fromBinary(DataSchema, value).data).toString()
    },
  }
  const allow = (update: number) =>
    writer.write({
      $typeName: 'google.protobuf.Any',
      typeUrl: WindowUpdateSchema.typeName,
      value: toBinary(WindowUpdateSchema, create(WindowUpdateSchema, { update })),
    })
  return { stream, allow, got: () => text, hangUp: () => writer.close() }
}

test('lines come in their order, all of them before the end', async () => {
  const { stream, allow, got } = openClient()
  const lines = Array.from({ length: 1000 }, (_, at) => `line ${at}\n`)
  {
    await using log = openLogStream(stream, forever)
    await allow(1024 * 1024)
    for (const line of lines) log.write(line)
  }

  expect(got()).toBe(lines.join(''))
})

test('a client that reads late has what fits, and is told how much does not', async () => {
  const { stream, allow, got } = openClient()
  {
    await using log = openLogStream(stream, forever)
    log.write('first\n')
    await new Promise(setImmediate) // it is under way
    for (let at = 0; at < 1000; at++) log.write(`${'x'.repeat(1023)}\n`)
    await allow(64 * 1024 * 1024)
  }

  expect(got()).toHaveLength(6 + 256 * 1024 + '! 744 entries are left out: read faster\n\n'.length)
  expect(got()).toMatch(/^first\nx[^!]*! 744 entries are left out: read faster\n\n$/)
})

test('a client that never reads, or that is gone, holds up nothing for long', async () => {
  const silent = openClient()
  const gone = openClient()
  await gone.hangUp()
  {
    await using one = openLogStream(silent.stream, forever)
    await using two = openLogStream(gone.stream, forever)
    for (const log of [one, two]) log.write('unheard\n')
  }

  expect([silent.got(), gone.got()]).toEqual(['', ''])
})
