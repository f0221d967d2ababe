/** Letter G: clients that read slowly, or not at all, that open thousands of streams, or that send giants. */
import { once } from 'node:events'
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2'
import { connect as connectSocket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { create, toBinary } from '@bufbuild/protobuf'
import type { Any } from '@bufbuild/protobuf/wkt'
import { Content, ReadContentRequestSchema, WriteAction } from '@gantry/api/containerd/services/content/v1/content_pb'
import { StreamInitSchema, Streaming } from '@gantry/api/containerd/services/streaming/v1/streaming_pb'
import { sha256Of } from '@gantry/model/digest'
import { parseNamespace } from '@gantry/model/namespace'
import { type Channel, clientOf, connect } from '@gantry/rpc/client'
import { listen } from '@gantry/rpc/server'
import { bind } from '@gantry/rpc/service'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { contentService } from './content-service.ts'
import { streamingService } from './streaming/streaming-service.ts'
import { createStreams, type Streams } from './streaming/streams.ts'
import { openTestParts, type TestParts } from './testing/parts.ts'

const MIB = 1024 * 1024
const NS = parseNamespace('default')
const silent = { error: () => undefined, debug: () => undefined }
let parts: TestParts
let stack: AsyncDisposableStack
let address: string
let channel: Channel
let streams: Streams

beforeEach(async () => {
  stack = new AsyncDisposableStack()
  parts = stack.use(await openTestParts())
  streams = createStreams()
  address = join(parts.root, 's')
  const bindings = [bind(Content, contentService(parts)), bind(Streaming, streamingService(streams))]
  stack.use(await listen({ address, bindings, log: silent }))
  channel = stack.use(connect(address))
})
afterEach(() => stack.disposeAsync())

const call = () => ({ namespace: 'default', signal: AbortSignal.timeout(15_000) })

async function bring(data: Buffer): Promise<void> {
  const opening = { namespace: NS, lease: undefined, ref: 'a', expected: undefined, total: 0n }
  await using writer = await parts.ingests.open(opening, call().signal)
  await writer.append(data)
  await writer.commit({ total: 0n, expected: undefined, labels: {} }, call().signal)
}

/** A bare HTTP/2 client: it takes what the first window lets through and then asks for no more. */
function openSession(): ClientHttp2Session {
  const session = connectHttp2('http://localhost', { createConnection: () => connectSocket(address) })
  session.on('error', () => undefined)
  stack.defer(() => session.destroy())
  return session
}

function readAndStall(session: ClientHttp2Session, digest: string): Promise<unknown> {
  const path = '/containerd.services.content.v1.Content/Read'
  const headers = { 'content-type': 'application/grpc', te: 'trailers', 'containerd-namespace': 'default' }
  const stream = session.request({ ':method': 'POST', ':path': path, ...headers })
  const message = toBinary(ReadContentRequestSchema, create(ReadContentRequestSchema, { digest }))
  const frame = Buffer.alloc(5 + message.length)
  frame.writeUInt32BE(message.length, 1)
  frame.set(message, 5)
  stream.on('error', () => undefined)
  stream.pause()
  stream.end(frame)
  return once(stream, 'response')
}

test('CVE-2022-23471: a thousand readers that stand still pin little, and others are served', {
  timeout: 30_000,
}, async () => {
  const data = Buffer.alloc(16 * MIB, 'gantry')
  await bring(data)
  const digest = sha256Of(data)
  const before = process.memoryUsage().arrayBuffers

  const sessions = Array.from({ length: 20 }, openSession)
  await Promise.all(
    Array.from({ length: 1000 }, (_, n) => readAndStall(sessions[n % 20] as ClientHttp2Session, digest)),
  )
  await sleep(500)

  // five times as much, were there no bound; what waits for the collector counts as well
  expect((process.memoryUsage().arrayBuffers - before) / MIB).toBeLessThan(600)
  let read = 0
  for await (const { data } of clientOf(Content, channel).read({ digest }, call())) read += data.length
  expect(read).toBe(data.length)
})

test('two thousand open streams are told apart, and gone with their clients', { timeout: 30_000 }, async () => {
  const hangup = new AbortController()
  async function* open(id: string): AsyncGenerator<Omit<Any, '$typeName'>> {
    yield { typeUrl: StreamInitSchema.typeName, value: toBinary(StreamInitSchema, create(StreamInitSchema, { id })) }
    await once(hangup.signal, 'abort')
  }
  const client = clientOf(Streaming, channel)
  const ids = Array.from({ length: 2000 }, (_, n) => `s-${n}`)
  await Promise.all(
    ids.map(async (id) => {
      const replies = client.stream(open(id), { namespace: 'default', signal: hangup.signal })[Symbol.asyncIterator]()
      await replies.next()
    }),
  )
  for (const id of ids) streams.get('default', id)

  hangup.abort()

  await expect.poll(() => ids.filter((id) => isOpen(id)), { timeout: 10_000 }).toEqual([])
})

function isOpen(id: string): boolean {
  try {
    streams.get('default', id)
    return true
  } catch {
    return false
  }
}

test('a message beyond 16 MiB is refused, and lets go of its ref', async () => {
  const client = clientOf(Content, channel)
  async function* giant() {
    yield { action: WriteAction.STAT, ref: 'giant' }
    yield { action: WriteAction.WRITE, data: Buffer.alloc(17 * MIB) }
  }

  await expect(Array.fromAsync(client.write(giant(), call()))).rejects.toMatchObject({ code: 'resource-exhausted' })

  await expect.poll(() => parts.ingests.isBusy(NS, 'giant')).toBe(false)
})

test('a stream whose first message is a giant, or whose name is, is refused', async () => {
  const client = clientOf(Streaming, channel)
  const opening = (id: string) => ({
    typeUrl: StreamInitSchema.typeName,
    value: toBinary(StreamInitSchema, create(StreamInitSchema, { id })),
  })
  async function* open(id: string) {
    yield opening(id)
  }

  await expect(Array.fromAsync(client.stream(open('x'.repeat(17 * MIB)), call()))).rejects.toMatchObject({
    code: 'resource-exhausted',
  })
  await expect(Array.fromAsync(client.stream(open('x'.repeat(2000)), call()))).rejects.toMatchObject({
    code: 'invalid-argument',
  })
})
