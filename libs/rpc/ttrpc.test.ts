import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, connect as dial, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { StateRequestSchema, Task } from '@gantry/api/containerd/runtime/task/v3/shim_pb'
import { Content } from '@gantry/api/containerd/services/content/v1/content_pb'
import { Streaming } from '@gantry/api/containerd/services/streaming/v1/streaming_pb'
import { RequestSchema, ResponseSchema } from '@gantry/api/gantry/ttrpc/v1/ttrpc_pb'
import { Fault } from '@gantry/model/fault'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { inScope } from './scope.ts'
import { bind, type Implementation, unimplemented } from './service.ts'
import { connectTtrpc, type TtrpcConnection, ttrpcClient } from './ttrpc-client.ts'
import { encodeFrame, MAX_FRAME_BYTES, OPEN, REQUEST, readFrames } from './ttrpc-frame.ts'
import { listenTtrpc } from './ttrpc-server.ts'

const signal = new AbortController().signal
let folder: string
let server: AsyncDisposable
let connection: TtrpcConnection
const asked: string[] = []
const stopped: unknown[] = []

const some: Partial<Implementation<typeof Task>> = {
  async pids({ id }, { namespace }) {
    asked.push(`${namespace}/${id}`)
    return { processes: [{ pid: 7 }] }
  },
  async stats({ id }, { namespace, lease }) {
    asked.push(`${namespace}/${id} under ${lease}`)
    return {}
  },
  async state({ id }, { signal }) {
    signal.addEventListener('abort', () => stopped.push(signal.reason))
    if (id === 'slow') await new Promise(() => undefined)
    throw new Fault('not-found', `no ${id}`)
  },
}
const task = {
  ...Object.fromEntries(Object.keys(Task.method).map((name) => [name, unimplemented(name)])),
  ...some,
} as Implementation<typeof Task>

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'gantry-ttrpc-'))
  stopped.length = 0
  const log = { error: vi.fn() }
  server = await listenTtrpc({ address: join(folder, 's'), bindings: [bind(Task, task)], log } as never)
  connection = await connectTtrpc(join(folder, 's'), 1000)
})
afterEach(async () => {
  await connection[Symbol.asyncDispose]()
  await server[Symbol.asyncDispose]()
  rmSync(folder, { recursive: true })
})

test('a call and its namespace arrive, the reply and errors come back', async () => {
  const client = ttrpcClient(Task, connection)

  expect(await client.pids({ id: 'box' }, { signal, namespace: 'ns' })).toMatchObject({ processes: [{ pid: 7 }] })
  expect(asked).toEqual(['ns/box'])
  await expect(client.state({ id: 'box' }, { signal })).rejects.toMatchObject({ code: 'not-found', message: 'no box' })
  await expect(client.start({ id: 'box' }, { signal })).rejects.toMatchObject({ code: 'unimplemented' })
  const other = ttrpcClient(Task, connection, 'containerd.task.v2.Task')
  await expect(other.pids({ id: 'box' }, { signal })).rejects.toMatchObject({ code: 'unimplemented' })
})

test('a shim is told the namespace, the time that is left and which call this is part of, but no lease', async () => {
  const requests: unknown[] = []
  const peer = createServer(async (socket) => {
    for await (const { payload } of readFrames(socket)) {
      const { service, method, metadata, timeoutNano } = fromBinary(RequestSchema, payload ?? Buffer.of())
      const headers = metadata.map(({ key, value }) => `${key}=${value}`)
      requests.push([`${service}/${method}`, headers, timeoutNano])
      socket.end()
    }
  })
  await new Promise<void>((resolve) => peer.listen(join(folder, 'peer'), resolve))
  const tell = async (options: { namespace?: string; lease?: string; timeoutMs?: number }) => {
    await using connection = await connectTtrpc(join(folder, 'peer'), 1000)
    await ttrpcClient(Task, connection, 'containerd.task.v2.Task')
      .pids({}, { signal, ...options })
      .catch(() => undefined)
  }

  await tell({ namespace: 'ns', lease: 'mine', timeoutMs: 60_000 })
  await inScope({ requestId: 'r1', trace: undefined, tracer: undefined }, () => tell({ namespace: 'ns' }))
  await tell({})

  expect(requests).toEqual([
    ['containerd.task.v2.Task/Pids', ['containerd-namespace-ttrpc=ns'], 60_000_000_000n],
    ['containerd.task.v2.Task/Pids', ['gantry-request-id=r1', 'containerd-namespace-ttrpc=ns'], 0n],
    ['containerd.task.v2.Task/Pids', [], 0n],
  ])
  peer.close()
})

test('of what a shim tells us about a call, the first namespace counts and the name in capitals too', async () => {
  const socket = dial(join(folder, 's'))
  const replies = readFrames(socket)[Symbol.asyncIterator]()
  const ask = async (streamId: number, ...headers: (readonly [string, string])[]) => {
    const metadata = headers.map(([key, value]) => ({ key, value }))
    const request = create(RequestSchema, { service: Task.typeName, method: 'Stats', metadata })
    socket.write(encodeFrame(streamId, REQUEST, toBinary(RequestSchema, request)))
    return (await replies.next()).value.payload.toString()
  }
  asked.length = 0

  await ask(1, ['Containerd-Namespace-TTRPC', 'one'], ['containerd-namespace-ttrpc', 'two'], ['containerd-lease', 'l'])
  const unnamed = await ask(3, ['containerd-namespace', 'of gRPC'])

  expect(asked).toEqual(['one/ under l'])
  expect(unnamed).toContain('namespace is required')
  socket.destroy()
})

test('a call that gets no reply ends with its time, its caller or its connection', async () => {
  const client = ttrpcClient(Task, connection)
  const abort = new AbortController()

  await expect(client.state({ id: 'slow' }, { signal, timeoutMs: 20 })).rejects.toMatchObject({
    code: 'deadline-exceeded',
  })
  const cancelled = client.state({ id: 'slow' }, { signal: abort.signal })
  abort.abort()
  await expect(cancelled).rejects.toMatchObject({ code: 'cancelled' })
  const lost = client.state({ id: 'slow' }, { signal })
  await Promise.all([expect(lost).rejects.toMatchObject({ code: 'unavailable' }), server[Symbol.asyncDispose]()])
  await connection.closed
})

test('a call whose time is over is answered, and its handler told', async () => {
  const socket = dial(join(folder, 's'))
  const replies = readFrames(socket)[Symbol.asyncIterator]()
  const [service, method, timeoutNano] = [Task.typeName, 'State', 20_000_000n]
  const payload = toBinary(StateRequestSchema, create(StateRequestSchema, { id: 'slow' }))
  const request = create(RequestSchema, { service, method, payload, timeoutNano })
  socket.write(encodeFrame(1, REQUEST, toBinary(RequestSchema, request)))

  const reply = fromBinary(ResponseSchema, (await replies.next()).value.payload)

  expect(reply.status).toMatchObject({ code: 4, message: 'The deadline has passed' })
  await expect.poll(() => stopped).toMatchObject([{ code: 'deadline-exceeded' }])
  socket.destroy()
})

test('a stream whose time is over is answered, and its handler waits for no more', async () => {
  await using node = await streaming()
  const socket = dial(join(folder, 'streams'))
  const replies = readFrames(socket)[Symbol.asyncIterator]()
  const [service, method, timeoutNano] = [Streaming.typeName, 'Stream', 20_000_000n]
  const metadata = [{ key: 'containerd-namespace-ttrpc', value: 'ns' }]
  const request = create(RequestSchema, { service, method, timeoutNano, metadata })
  socket.write(encodeFrame(1, REQUEST, toBinary(RequestSchema, request), OPEN))

  const reply = fromBinary(ResponseSchema, (await replies.next()).value.payload)

  expect(reply.status).toMatchObject({ code: 4 })
  await until(() => node.stopped())
  socket.destroy()
})

test('a call that was cancelled before is never sent, also over a connection that is lost', async () => {
  const client = ttrpcClient(Task, connection)
  const call = () => client.pids({ id: 'late' }, { signal: AbortSignal.abort(), namespace: 'ns' })
  const stream = ttrpcClient(Content, connection).read({ digest: 'late' }, { signal: AbortSignal.abort() })
  asked.length = 0

  await expect(call()).rejects.toMatchObject({ code: 'cancelled' })
  await expect(collect(stream)).rejects.toMatchObject({ code: 'cancelled' })
  await client.pids({ id: 'now' }, { signal, namespace: 'ns' })
  await connection[Symbol.asyncDispose]()
  await expect(call()).rejects.toMatchObject({ code: 'cancelled' })

  expect(asked).toEqual(['ns/now'])
})

test('frames may come in pieces; one that is too large is thrown away and the next one read', async () => {
  const socket = dial(join(folder, 's'))
  const frames = readFrames(socket as Socket)[Symbol.asyncIterator]()
  const bytes = Buffer.concat([
    encodeFrame(1, REQUEST, Buffer.alloc(MAX_FRAME_BYTES + 1)),
    encodeFrame(3, REQUEST, Buffer.from('rubbish')),
    encodeFrame(3, REQUEST, Buffer.alloc(0)),
  ])
  for (let at = 0; at < bytes.length; at += 999_983) socket.write(bytes.subarray(at, at + 999_983))

  const replies = [await frames.next(), await frames.next(), await frames.next()]
  expect(replies.map(({ value }) => [value.streamId, value.payload?.toString().replace(/[^ -~]/g, '')])).toEqual([
    [1, expect.stringContaining('the message is too large')],
    [3, expect.stringContaining('cannot be read')],
    [3, expect.stringContaining('not larger than the last')],
  ])
  socket.destroy()
})

test('messages stream one way and both, to their end or to what went wrong', async () => {
  await using node = await streaming()
  const { content, streams } = node

  expect(await collect(content.read({ digest: '3' }, { signal }))).toEqual(['0', '1', '2'])
  expect(await collect(content.read({ digest: '0' }, { signal }))).toEqual([])
  await expect(collect(content.read({ digest: 'none' }, { signal }))).rejects.toMatchObject({ code: 'not-found' })
  const both = streams.stream(say(['a', '', 'c']), { signal, namespace: 'ns' })
  expect(await Array.fromAsync(both, ({ typeUrl }) => typeUrl)).toEqual(['ns:a', 'ns:', 'ns:c'])
})

test('a stream that is not read holds up its connection alone, and ends with it', async () => {
  await using node = await streaming()
  const endless = node.content.read({ digest: 'endless' }, { signal })[Symbol.asyncIterator]()
  await endless.next()
  await until(() => node.sent() > 0 && node.sent() === node.sentBefore())

  const lost = (async () => {
    for (;;) if ((await endless.next()).done) return
  })()
  await node[Symbol.asyncDispose]()

  await expect(lost).rejects.toMatchObject({ code: 'unavailable' })
  await until(() => node.stopped())
})

test('who stops reading a stream, or waits too long, goes on with the others', async () => {
  await using node = await streaming()
  const { content } = node
  for await (const { data } of content.read({ digest: '3' }, { signal })) {
    expect(String(data)).toBe('0')
    break
  }
  const silent = collect(content.read({ digest: 'silent' }, { signal, timeoutMs: 20 }))
  await expect(silent).rejects.toMatchObject({ code: 'deadline-exceeded' })

  expect(await collect(content.read({ digest: '1' }, { signal }))).toEqual(['0'])
})

test('nobody there is unavailable', async () => {
  await expect(connectTtrpc(join(folder, 'none'), 100)).rejects.toMatchObject({ code: 'unavailable' })
})

/** A server with streams, and clients of it. */
async function streaming() {
  let [sent, before, stopped] = [0, -1, false]
  async function* read({ digest }: { digest: string }) {
    try {
      if (digest === 'none') throw new Fault('not-found', 'none')
      if (digest === 'silent') await new Promise(() => undefined)
      for (let at = 0; digest === 'endless' || at < Number(digest); at++) {
        yield { offset: 0n, data: digest === 'endless' ? Buffer.alloc(256 * 1024) : Buffer.from(String(at)) }
        sent++
      }
    } finally {
      stopped = true
    }
  }
  async function* stream(messages: AsyncIterable<{ typeUrl: string }>, { namespace }: { namespace: string }) {
    try {
      for await (const { typeUrl } of messages) yield { typeUrl: `${namespace}:${typeUrl}`, value: new Uint8Array() }
    } finally {
      stopped = true
    }
  }
  const address = join(folder, 'streams')
  const bindings = [
    bind(Content, { read } as unknown as Implementation<typeof Content>),
    bind(Streaming, { stream } as unknown as Implementation<typeof Streaming>),
  ]
  const server = await listenTtrpc({ address, bindings, log: { error: vi.fn() } } as never)
  const connection = await connectTtrpc(address, 1000)
  return {
    ...{ content: ttrpcClient(Content, connection), streams: ttrpcClient(Streaming, connection) },
    ...{ sent: () => sent, stopped: () => stopped },
    sentBefore() {
      const last = before
      before = sent
      return last
    },
    async [Symbol.asyncDispose]() {
      await connection[Symbol.asyncDispose]()
      await server[Symbol.asyncDispose]()
    },
  }
}

async function* say(words: readonly string[]) {
  for (const typeUrl of words) yield { typeUrl, value: new Uint8Array() }
}

function collect(chunks: AsyncIterable<{ data: Uint8Array }>): Promise<string[]> {
  return Array.fromAsync(chunks, ({ data }) => Buffer.from(data).toString())
}

/** Looks every 20 ms; the test's own limit ends it. */
async function until(check: () => boolean): Promise<void> {
  while (!check()) await sleep(20)
}
