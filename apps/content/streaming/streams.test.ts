import { create, toBinary } from '@bufbuild/protobuf'
import type { Any } from '@bufbuild/protobuf/wkt'
import { StreamInitSchema } from '@gantry/api/containerd/services/streaming/v1/streaming_pb'
import { expect, test } from 'vitest'
import { streamingService } from './streaming-service.ts'
import { createStreams } from './streams.ts'

function open(streams: ReturnType<typeof createStreams>, id: string) {
  const hangup = new AbortController()
  const init = toBinary(StreamInitSchema, create(StreamInitSchema, { id }))
  async function* requests(): AsyncGenerator<Any> {
    yield { $typeName: 'google.protobuf.Any', typeUrl: StreamInitSchema.typeName, value: init }
  }
  const context = { header: () => 'default', lease: undefined, signal: hangup.signal, namespace: 'default' as never }
  const replies = streamingService(streams).stream(requests(), context)[Symbol.asyncIterator]()
  return { replies, hangup }
}

const message = (n: number) => ({ typeUrl: 'test.Message', value: Uint8Array.of(n) })

test('a stream is acknowledged, carries what is sent and ends when this side closes', async () => {
  const streams = createStreams()
  const { replies } = open(streams, 's')
  expect((await replies.next()).value).toMatchObject({ typeUrl: 'google.protobuf.Empty' })
  const stream = streams.get('default', 's')
  await stream.send(message(1))
  stream.close()

  expect((await replies.next()).value).toEqual(message(1))
  expect((await replies.next()).done).toBe(true)
  expect(() => streams.get('default', 's')).toThrow('not found')
})

test('a stream of another namespace is not found, whatever its name', () => {
  const streams = createStreams()
  async function* nothing() {}
  streams.open({ namespace: 'a/b', id: 'c' }, nothing(), new AbortController().signal)

  expect(() => streams.get('a', 'b/c')).toThrow('not found')
})

test('an id that is taken is answered as containerd does', async () => {
  const streams = createStreams()
  await open(streams, 's').replies.next()

  await expect(open(streams, 's').replies.next()).rejects.toMatchObject({ code: 'unknown' })
})

test('sending waits for a slow client and gives up on one that hung up', async () => {
  const streams = createStreams()
  const { replies, hangup } = open(streams, 's')
  await replies.next()
  const stream = streams.get('default', 's')
  for (let n = 0; n < 16; n++) await stream.send(message(n))
  let sent = false
  const last = stream.send(message(16)).then(() => {
    sent = true
  })
  await new Promise((resolve) => setTimeout(resolve, 20))
  expect(sent).toBe(false)

  await replies.next()
  hangup.abort()
  await last
  expect(sent).toBe(true)
})
