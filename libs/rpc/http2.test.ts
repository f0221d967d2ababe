/** What the public side stands: ordinary clients of other languages, and those that mean ill. */
import { mkdtempSync, rmSync } from 'node:fs'
import { connect as connectHttp2, constants, type IncomingHttpHeaders } from 'node:http2'
import { connect as dial } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as dialTls } from 'node:tls'
import { Content } from '@gantry/api/containerd/services/content/v1/content_pb'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { createAuthority } from './certificates.fixture.ts'
import { clientOf, connect } from './client.ts'
import { MAX_MESSAGE_BYTES } from './message.ts'
import { route } from './proxy.ts'
import {
  ACK,
  CONTINUATION,
  END_HEADERS,
  frame,
  GOAWAY,
  HEADERS,
  headerBlock,
  openRaw,
  PING,
  RST_STREAM,
  SETTINGS,
} from './raw-http2.fixture.ts'
import { listen, listenTls, type Served } from './server.ts'
import { bind, type Implementation, unimplemented } from './service.ts'
import { readKeys, readTls } from './tls.ts'

vi.setConfig({ testTimeout: 60_000 })

const log = { error: () => undefined, debug: () => undefined }
const signal = new AbortController().signal
const INFO = '/containerd.services.content.v1.Content/Info'
const READ = '/containerd.services.content.v1.Content/Read'
const RESOURCE_EXHAUSTED = '8'

let folder: string
let running: number
let begun: number // calls that ran, ever
let release: PromiseWithResolvers<void>
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'gantry-h2-'))
  running = 0
  begun = 0
  release = Promise.withResolvers<void>()
})
afterEach(() => rmSync(folder, { recursive: true }))

const missing = unimplemented('this')
const content: Implementation<typeof Content> = {
  info: async ({ digest }, { header }) => ({
    info: {
      digest: digest.slice(0, 8),
      size: BigInt(digest.length),
      labels: { extra: String(header('x-extra')?.length) },
    },
  }),
  /** Answers once, then waits: for its caller to go, or for the test. */
  async *read({ size }, context) {
    begun++
    running++
    try {
      yield { data: new Uint8Array(Number(size)) }
      await Promise.race([release.promise, aborted(context.signal)])
    } finally {
      running--
    }
  },
  async *write(requests, { header }) {
    if (header('x-late')) await release.promise
    for await (const { data } of requests) yield { offset: BigInt(data.length) }
  },
  /** Waits for the test, as a call that changes something may. */
  abort: async () => {
    running++
    await release.promise
    running--
    return {}
  },
  ...{ update: missing, list: missing, delete: missing, status: missing, listStatuses: missing },
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}

/** An owner behind a gateway, as a node has them. */
async function serve(options: Partial<Served> = {}) {
  const stack = new AsyncDisposableStack()
  const address = join(folder, 'owner.sock')
  stack.use(await listen({ address, bindings: [bind(Content, content)], hop: true, log }))
  const owner = stack.use(connect(address))
  const path = join(folder, 'gateway.sock')
  const gateway = await listen({ address: path, bindings: [], routes: [route(Content, owner)], log, ...options })
  stack.defer(() => gateway[Symbol.asyncDispose]())
  return { path, owner, gateway, [Symbol.asyncDispose]: () => stack.disposeAsync() }
}

/** One call with a client of node's own; gives the status and what was heard. */
function request(
  session: ReturnType<typeof connectHttp2>,
  path: string,
  { headers = {}, body = framed(Buffer.alloc(0)) } = {},
) {
  const stream = session.request({
    ':method': 'POST',
    ':path': path,
    'content-type': 'application/grpc',
    te: 'trailers',
    'containerd-namespace': 'n',
    ...headers,
  })
  const chunks: Buffer[] = []
  let status = ''
  const hear = (heard: IncomingHttpHeaders) => {
    status ||= String(heard['grpc-status'] ?? '')
  }
  stream
    .on('response', hear)
    .on('trailers', hear)
    .on('error', () => undefined)
  stream.on('data', (chunk: Buffer) => chunks.push(chunk))
  stream.end(body)
  const over = new Promise<{ status: string; body: Buffer; reset: number | undefined }>((resolve) => {
    stream.on('close', () => resolve({ status, body: Buffer.concat(chunks), reset: stream.rstCode }))
  })
  return { stream, over }
}

function framed(message: Uint8Array): Buffer {
  const head = Buffer.alloc(5)
  head.writeUInt32BE(message.length, 1)
  return Buffer.concat([head, message])
}

const dialled = (path: string, options = {}) =>
  connectHttp2('http://localhost', { createConnection: () => dial(path), maxSessionMemory: 1000, ...options })

const infoOf = async (path: string, waitMs = 10_000) => {
  await using channel = connect(path)
  const { info } = await clientOf(Content, channel).info({ digest: 'd' }, { signal, namespace: 'n', waitMs })
  return info
}

describe('ordinary clients', () => {
  test('pings are answered, however many: none of them ends the connection', async () => {
    await using node = await serve()
    using raw = await openRaw(node.path)
    const COUNT = 2000

    for (let n = 0; n < COUNT; n += 100) {
      const pings = Array.from({ length: 100 }, () => frame({ type: PING, payload: Buffer.alloc(8, 7) }))
      await raw.send(...pings)
      await vi.waitFor(() => expect(acks()).toBe(n + 100), { timeout: 10_000 })
    }
    function acks() {
      return raw.frames.filter(({ type, flags }) => type === PING && flags === ACK).length
    }

    expect(raw.frames.filter(({ type }) => type === GOAWAY)).toEqual([])
    expect(await infoOf(node.path)).toMatchObject({ size: 1n })
  })

  test('headers of a hundred kilobytes arrive whole, none of them larger than 64', async () => {
    await using node = await serve()
    const session = dialled(node.path, { maxSendHeaderBlockLength: 1024 * 1024 })
    const others = Array.from({ length: 2 }, (_, n) => [`x-other-${n}`, 'x'.repeat(20_000)])
    const headers = { ...Object.fromEntries(others), 'x-extra': 'x'.repeat(60_000) }

    const { over } = request(session, INFO, { headers })
    const { status, body } = await over
    session.destroy()

    expect(status).toBe('0')
    expect(body.toString('latin1')).toContain('60000')
  })

  test('a caller that is done sending hears the rest of a stream', async () => {
    await using node = await serve()
    const session = dialled(node.path)

    const { stream, over } = request(session, READ, { body: framed(Buffer.of(0x18, 100)) }) // size = 100
    await vi.waitFor(() => expect(running).toBe(1), { timeout: 10_000 })
    const half = stream.state.localClose
    release.resolve()
    const { status, body } = await over
    session.destroy()

    expect([half, status, body.length > 100]).toEqual([1, '0', true])
  })

  test('a message of 16 MiB goes through both ways, one byte more is RESOURCE_EXHAUSTED, and the connection stands', async () => {
    await using node = await serve()
    const session = dialled(node.path)
    const digestOf = (total: number) => {
      const head = Buffer.from([0x0a, 0, 0, 0, 0]) // digest, with room for its length in four bytes
      const size = total - head.length
      for (let at = 0; at < 4; at++) head[1 + at] = ((size >> (7 * at)) & 0x7f) | (at < 3 ? 0x80 : 0)
      return framed(Buffer.concat([head, Buffer.alloc(size, 'd')]))
    }

    const [fits, large, stream] = [
      await request(session, INFO, { body: digestOf(MAX_MESSAGE_BYTES) }).over,
      await request(session, INFO, { body: digestOf(MAX_MESSAGE_BYTES + 1) }).over,
      await request(session, '/containerd.services.content.v1.Content/Write', { body: digestOf(MAX_MESSAGE_BYTES + 1) })
        .over,
    ]
    const answer = await request(session, READ, { body: framed(Buffer.of(0x18, 0xe0, 0xff, 0xff, 0x07)) }) // size = 16 MiB - 32
    await vi.waitFor(() => expect(running).toBe(1), { timeout: 30_000 })
    release.resolve()
    const whole = await answer.over
    const alive = !session.closed
    session.destroy()

    expect([fits.status, large.status, stream.status]).toEqual(['0', RESOURCE_EXHAUSTED, RESOURCE_EXHAUSTED])
    expect([whole.status, whole.body.length > 16 * 1024 * 1024 - 64, alive]).toEqual(['0', true, true])
  })
})

describe('a gateway that stops', () => {
  test('tells its clients to go elsewhere, and lets the calls end that run', async () => {
    await using node = await serve({ graceMs: 30_000 })
    const session = dialled(node.path)
    const told = new Promise<number>((resolve) => session.on('goaway', (code) => resolve(code)))
    const { over } = request(session, '/containerd.services.content.v1.Content/Abort')
    await vi.waitFor(() => expect(running).toBe(1), { timeout: 10_000 })

    const stopping = node.gateway[Symbol.asyncDispose]()
    const code = await told
    await expect(infoOf(node.path, 300)).rejects.toMatchObject({ code: 'unavailable' })
    release.resolve()
    const { status } = await over
    await stopping

    expect([code, status]).toEqual([constants.NGHTTP2_NO_ERROR, '0'])
  })

  test('waits for no call that may last for ever, and for the others no longer than its grace', async () => {
    await using node = await serve({ graceMs: 300, lasting: new Set([READ]) })
    const session = dialled(node.path)
    const lasting = request(session, READ)
    const stuck = request(session, '/containerd.services.content.v1.Content/Abort')
    await vi.waitFor(() => expect(running).toBe(2), { timeout: 10_000 })

    const stopping = node.gateway[Symbol.asyncDispose]()
    const first = await Promise.race([lasting.over.then(() => 'lasting'), stuck.over.then(() => 'stuck')])
    const statuses = [(await lasting.over).status, (await stuck.over).status]
    await stopping
    release.resolve()

    expect(first).toBe('lasting')
    expect(statuses).toEqual(['14', '14'])
  })
})

describe('clients that mean ill', () => {
  const open = (stream: number) => [
    frame({ type: HEADERS, flags: END_HEADERS, stream, payload: READING }),
    frame({ type: 0, flags: 1, stream, payload: framed(Buffer.alloc(0)) }),
    frame({ type: RST_STREAM, stream, payload: Buffer.of(0, 0, 0, 8) }),
  ]
  const READING = headerBlock({
    ':method': 'POST',
    ':scheme': 'http',
    ':authority': 'a', // without it, no call comes of it
    ':path': READ,
    'content-type': 'application/grpc',
    'containerd-namespace': 'n',
  })

  test('CVE-2023-44487: streams that are opened and reset at once leave nothing that runs, and others are answered', async () => {
    await using node = await serve()
    using raw = await openRaw(node.path)
    const COUNT = 20_000

    const flood = (async () => {
      for (let n = 0; n < COUNT; n += 500)
        await raw.send(...Array.from({ length: 500 }, (_, at) => open(2 * (n + at) + 1)).flat())
    })()
    const meanwhile = await infoOf(node.path)
    await flood
    const { size } = (await infoOf(node.path)) ?? {}

    expect([meanwhile?.size, size]).toEqual([1n, 1n])
    expect(begun).toBeGreaterThan(0)
    await vi.waitFor(() => expect(running).toBe(0), { timeout: 30_000 })
  })

  test('CVE-2023-44487: over TCP such a connection is closed', async () => {
    await using authority = await createAuthority()
    const bindings = [bind(Content, content)]
    const keys = readTls(await authority.server())
    await using server = await listenTls({ host: '127.0.0.1', port: 0, keys, bindings, log })
    const mine = readKeys({ ...(await authority.sign('c', { cn: 'c' })), ca: authority.ca })
    const socket = dialTls({ host: '127.0.0.1', port: server.port, ...mine, ALPNProtocols: ['h2'] })
    await new Promise((resolve) => socket.once('secureConnect', resolve))
    using raw = await openRaw('', socket)
    let open_ = true
    void raw.closed.then(() => {
      open_ = false
    })

    for (let n = 0; n < 200_000 && open_; n += 1000)
      await raw.send(...Array.from({ length: 1000 }, (_, at) => open(2 * (n + at) + 1)).flat())
    await raw.closed

    await vi.waitFor(() => expect(running).toBe(0), { timeout: 30_000 })
  })

  test('a caller that leaves without an error while its messages wait ends nothing but its call', async () => {
    await using node = await serve()
    using raw = await openRaw(node.path)
    const WRITE = { ':path': '/containerd.services.content.v1.Content/Write', 'x-late': '1' }
    const payload = headerBlock({ ':method': 'POST', ':scheme': 'http', ':authority': 'a', ...WRITE })
    const pieces = Array.from({ length: 30 }, () => frame({ stream: 1, payload: framed(Buffer.alloc(16_000)) }))

    await raw.send(frame({ type: SETTINGS, flags: ACK }))
    await raw.send(frame({ type: HEADERS, flags: END_HEADERS, stream: 1, payload }), ...pieces)
    await raw.send(frame({ type: RST_STREAM, stream: 1, payload: Buffer.alloc(4) }))
    await raw.send(frame({ type: PING, payload: Buffer.alloc(8) })) // all is heard when it is answered
    await vi.waitFor(() => expect(raw.frames.some(({ type }) => type === PING)).toBe(true), { timeout: 10_000 })
    release.resolve()

    expect(await infoOf(node.path)).toMatchObject({ size: 1n })
  })

  test('large requests that never end take no more memory than there is room for, and others are answered', async () => {
    await using node = await serve()
    const session = dialled(node.path)
    const part = Buffer.alloc(MAX_MESSAGE_BYTES)
    part.writeUInt32BE(MAX_MESSAGE_BYTES, 1) // five bytes are missing
    const begun = Array.from({ length: 20 }, () => {
      const stream = session.request({ ':method': 'POST', ':path': INFO, 'content-type': 'application/grpc' })
      const status = new Promise((resolve) => stream.on('response', (heard) => resolve(heard['grpc-status'])))
      stream.on('error', () => undefined).write(part)
      return status
    })

    expect(await Promise.any(begun)).toBe(RESOURCE_EXHAUSTED)
    expect(await infoOf(node.path)).toMatchObject({ size: 1n })

    session.destroy()
    await using channel = connect(node.path)
    const { info } = clientOf(Content, channel)
    const large = () => info({ digest: 'd'.repeat(MAX_MESSAGE_BYTES - 100) }, { signal, namespace: 'n' })
    await vi.waitFor(large, { timeout: 30_000 })
  })

  test('CVE-2024-27316: headers without end are cut off, and others are answered', async () => {
    await using node = await serve()
    using raw = await openRaw(node.path)
    const more = frame({ type: CONTINUATION, stream: 1, payload: headerBlock({ 'x-more': 'x'.repeat(16_000) }) })
    let sent = 0
    let closed = false
    void raw.closed.then(() => {
      closed = true
    })

    await raw.send(frame({ type: HEADERS, stream: 1, payload: READING }))
    for (; sent < 64 * 1024 * 1024 && !closed; sent += more.length) await raw.send(more)
    await raw.closed

    expect(sent).toBeLessThan(64 * 1024 * 1024)
    expect(await infoOf(node.path)).toMatchObject({ size: 1n })
  })

  test('headers larger than any are refused, and others are answered', async () => {
    await using node = await serve()
    const session = dialled(node.path, { maxSendHeaderBlockLength: 4 * 1024 * 1024 })
    session.on('error', () => undefined)

    const { over } = request(session, INFO, { headers: { 'x-extra': 'x'.repeat(2 * 1024 * 1024) } })
    const { status } = await over
    session.destroy()

    expect(status).not.toBe('0')
    expect(await infoOf(node.path)).toMatchObject({ size: 1n })
  })

  test('bytes that are no HTTP/2 cost their connection and nothing else', async () => {
    await using node = await serve()
    const socket = dial(node.path)
    socket.on('error', () => undefined)
    socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n')

    await new Promise((resolve) => socket.resume().once('close', resolve))

    expect(await infoOf(node.path)).toMatchObject({ size: 1n })
  })
})
