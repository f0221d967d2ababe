import { writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer as createHttp } from 'node:http2'
import { createServer, connect as dial } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Containers } from '@gantry/api/containerd/services/containers/v1/containers_pb'
import { Content, WriteAction } from '@gantry/api/containerd/services/content/v1/content_pb'
import { Health, HealthCheckResponse_ServingStatus } from '@gantry/api/grpc/health/v1/health_pb'
import { Fault } from '@gantry/model/fault'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { clientOf, connect, connectLocal, connectOwner } from './client.ts'
import { route } from './proxy.ts'
import { listen } from './server.ts'
import { bind, type Implementation, unimplemented } from './service.ts'

const log = { error: () => undefined, debug: () => undefined }
const signal = AbortSignal.timeout(20_000)
const CHUNKS = 2000

let folder: string
let produced = 0
let aborted = Promise.withResolvers<void>()

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gantry-rpc-'))
  produced = 0
  aborted = Promise.withResolvers<void>()
})
afterEach(() => rm(folder, { recursive: true }))

const content: Implementation<typeof Content> = {
  async info({ digest }, { namespace, lease, header }) {
    if (digest === 'missing') throw new Fault('not-found', 'content missing: not found')
    if (digest === 'odd') throw new Fault('not-found', '  100 % ü\n ')
    if (digest === 'long') throw new Fault('not-found', 'ü'.repeat(200_000))
    if (digest === 'bug') throw new Error('secret')
    if (digest === 'full') writeFileSync('/dev/full', 'x')
    return { info: { digest, labels: { namespace, lease: lease ?? '', extra: header('x-extra') ?? '' } } }
  },
  async *read({ size }, context) {
    context.signal.addEventListener('abort', () => aborted.resolve())
    for (; produced < CHUNKS; produced++) yield { offset: BigInt(produced), data: new Uint8Array(Number(size)) }
  },
  async *write(requests) {
    let offset = 0n
    for await (const { action, data } of requests) {
      offset += BigInt(data.length)
      if (data.length === 13) throw new Fault('out-of-range', 'unlucky')
      yield { action, offset }
    }
    yield { action: WriteAction.COMMIT, offset }
  },
  update: unimplemented('update'),
  list: unimplemented('list'),
  delete: unimplemented('delete'),
  status: unimplemented('status'),
  listStatuses: unimplemented('listStatuses'),
  abort: async (_request, context) => {
    context.signal.addEventListener('abort', () => aborted.resolve())
    await aborted.promise
    return {}
  },
}

const OWN = 'from another owner, by the hop'
const LOCAL = 'direct, without grpc-js'
const WAYS = ['direct', LOCAL, 'through a gateway', OWN] as const

/** The service itself, or the same service behind a gateway: every rule below holds for both. */
async function serve(way: (typeof WAYS)[number]) {
  const stack = new AsyncDisposableStack()
  stack.use(await listen({ address: join(folder, 'owner.sock'), bindings: [bind(Content, content)], hop: true, log }))
  let address = join(folder, 'owner.sock')
  if (way === OWN) {
    const channel = stack.use(connectOwner(address))
    while (!channel.hop?.()) await new Promise((resolve) => setImmediate(resolve))
    return { client: clientOf(Content, channel), channel, [Symbol.asyncDispose]: () => stack.disposeAsync() }
  }
  if (way === 'through a gateway') {
    const owner = stack.use(connect(address))
    address = join(folder, 'gateway.sock')
    stack.use(await listen({ address, bindings: [], routes: [route(Content, owner)], log }))
  }
  const channel = stack.use(way === LOCAL ? connectLocal(address) : connect(address))
  return { client: clientOf(Content, channel), channel, [Symbol.asyncDispose]: () => stack.disposeAsync() }
}

describe.each(WAYS)('%s', (way) => {
  test('a unary call carries namespace, lease and headers to its handler', async () => {
    await using service = await serve(way)

    const reply = await service.client.info(
      { digest: 'd' },
      { signal, namespace: 'default', lease: 'l1', headers: { 'x-extra': 'y' } },
    )

    expect(reply.info?.labels).toEqual({ namespace: 'default', lease: 'l1', extra: 'y' })
  })

  test.each([
    ['a fault arrives as the same fault', 'missing', 'default', 'not-found', 'content missing: not found'],
    ['whatever its text', 'odd', 'default', 'not-found', '  100 % ü\n '],
    ['as far as trailers hold it', 'long', 'default', 'not-found', `${'ü'.repeat(1001)}${way === OWN ? 'ü' : '...'}`],
    ['a bug arrives as INTERNAL without its text', 'bug', 'default', 'internal', 'Internal error'],
    ['a full disk arrives as what it is', 'full', 'default', 'resource-exhausted', 'a disk of the node is full'],
    ['a missing namespace is refused', 'd', undefined, 'failed-precondition', 'namespace is required'],
    ['a malformed namespace is refused', 'd', '-bad-', 'invalid-argument', '-bad-'],
  ])('%s', async (_name, digest, namespace, code, text) => {
    await using service = await serve(way)

    const failure = await service.client.info({ digest }, { signal, namespace }).catch((error: unknown) => error)

    expect(failure).toBeInstanceOf(Fault)
    expect(failure).toMatchObject({ code, message: expect.stringContaining(text) })
  })

  test('a header that cannot travel is refused', async () => {
    await using service = await serve(way)

    for (const lease of ['a\0b', '\u{2603}', 'a\nb'])
      await expect(service.client.info({ digest: 'd' }, { signal, namespace: 'default', lease })).rejects.toMatchObject(
        {
          code: 'invalid-argument',
        },
      )
  })

  test('a method that is not there yet answers UNIMPLEMENTED', async () => {
    await using service = await serve(way)

    await expect(service.client.delete({ digest: 'd' }, { signal })).rejects.toMatchObject({ code: 'unimplemented' })
  })

  test('a stream arrives whole and in order', async () => {
    await using service = await serve(way)

    const offsets: bigint[] = []
    for await (const { offset } of service.client.read({ size: 10n }, { signal })) offsets.push(offset)

    expect(offsets).toEqual(Array.from({ length: CHUNKS }, (_, index) => BigInt(index)))
  })

  test('a reader that stops early stops the producer, long before it made everything', async () => {
    await using service = await serve(way)

    for await (const _ of service.client.read({ size: 100_000n }, { signal })) break
    await aborted.promise

    expect(produced).toBeLessThan(CHUNKS / 2)
  })

  test('a duplex call answers each message, and its last reply comes after the end of the input', async () => {
    await using service = await serve(way)
    async function* requests() {
      for (let n = 1; n <= 3; n++) yield { action: WriteAction.WRITE, data: new Uint8Array(n) }
    }

    const replies: bigint[] = []
    for await (const { offset } of service.client.write(requests(), { signal })) replies.push(offset)

    expect(replies).toEqual([1n, 3n, 6n, 6n])
  })

  test('a fault in the middle of a duplex call ends it with that fault', async () => {
    await using service = await serve(way)
    async function* requests() {
      yield { action: WriteAction.WRITE, data: new Uint8Array(13) }
      await new Promise((resolve) => setTimeout(resolve, 60_000).unref())
    }

    const call = Array.fromAsync(service.client.write(requests(), { signal }))

    await expect(call).rejects.toMatchObject({ code: 'out-of-range', message: 'unlucky' })
  })

  test('a caller that cancels is answered at once and the handler hears of it', async () => {
    await using service = await serve(way)
    const cancel = new AbortController()

    const call = service.client.abort({ ref: 'r' }, { signal: cancel.signal })
    setTimeout(() => cancel.abort(), 100)

    await expect(call).rejects.toMatchObject({ code: 'cancelled' })
    await aborted.promise
  })

  test('a deadline reaches the handler', async () => {
    await using service = await serve(way)

    const call = service.client.abort({ ref: 'r' }, { signal, timeoutMs: 200 })

    await expect(call).rejects.toMatchObject({ code: 'deadline-exceeded' })
    await aborted.promise
  })

  test('a message of more than 16 MiB is refused', async () => {
    await using service = await serve(way)

    const call = service.client.info({ digest: 'x'.repeat(17 * 1024 * 1024) }, { signal, namespace: 'default' })

    await expect(call).rejects.toMatchObject({ code: 'resource-exhausted' })
  })
})

test('health answers SERVING', async () => {
  await using service = await serve('direct')

  expect(await clientOf(Health, service.channel).check({}, { signal })).toMatchObject({
    status: HealthCheckResponse_ServingStatus.SERVING,
  })
})

test('a service nobody has registered answers UNIMPLEMENTED', async () => {
  await using service = await serve('direct')

  const call = clientOf(Containers, service.channel).get({ id: 'x' }, { signal })

  await expect(call).rejects.toMatchObject({ code: 'unimplemented' })
})

describe.each([
  ['connect', connect],
  ['connectLocal', connectLocal],
])('%s', (_name, open) => {
  test('a call waits for a peer that starts later, and for one that starts again', async () => {
    const address = join(folder, 'owner.sock')
    const start = () => listen({ address, bindings: [bind(Content, content)], log })
    await using channel = open(address)
    const call = () => clientOf(Content, channel).info({ digest: 'd' }, { signal, namespace: 'default' })
    const early = call()
    await new Promise((resolve) => setTimeout(resolve, 100))

    const first = await start()
    expect((await early).info?.digest).toBe('d')
    await first[Symbol.asyncDispose]()
    const between = call()
    await using _ = await start()
    expect((await between).info?.digest).toBe('d')
  })

  test('a peer that never comes is UNAVAILABLE after the wait', async () => {
    await using channel = open(join(folder, 'nobody.sock'))

    const call = clientOf(Content, channel).info({ digest: 'd' }, { signal, waitMs: 200 })

    await expect(call).rejects.toMatchObject({ code: 'unavailable', message: expect.stringContaining('nobody.sock') })
  })

  test('a peer that speaks something else is a failure, and one that leaves is UNAVAILABLE', async () => {
    const address = join(folder, 'odd.sock')
    const web = createHttp((_request, response) => void response.writeHead(404).end()).listen(address)
    await using channel = open(address)
    const call = () => clientOf(Content, channel).info({ digest: 'd' }, { signal })

    await expect(call()).rejects.toBeInstanceOf(Fault)
    web.removeAllListeners('request').on('stream', (stream) => stream.session?.destroy())
    await expect(call()).rejects.toMatchObject({ code: 'unavailable' })
    await new Promise((resolve) => web.close(resolve))
  })
})

test('whoever waits for a peer waits no longer than there is a channel', async () => {
  const channel = connect(join(folder, 'nobody.sock'))
  const waiting = channel.ready(600_000).catch((error: unknown) => error)
  await vi.waitUntil(() => channel.current()?.raw.getChannel().getConnectivityState(false)) // 0 before it is asked for

  await channel[Symbol.asyncDispose]()

  expect(await waiting).toMatchObject({ code: 'unavailable' })
})

test('a call through a gateway survives the restart of the owner before it', async () => {
  const address = join(folder, 'owner.sock')
  await using owner = connect(address)
  await using _ = await listen({ address: join(folder, 'g.sock'), bindings: [], routes: [route(Content, owner)], log })
  await using channel = connect(join(folder, 'g.sock'))
  const client = clientOf(Content, channel)
  const call = () => client.info({ digest: 'd' }, { signal, namespace: 'default' })
  const first = await listen({ address, bindings: [bind(Content, content)], hop: true, log })
  await call()

  await first[Symbol.asyncDispose]()
  const waiting = call()
  await using __ = await listen({ address, bindings: [bind(Content, content)], hop: true, log })

  expect((await waiting).info?.digest).toBe('d')
})

test('an owner that was restarted is called as before, by the hop', async () => {
  const address = join(folder, 'owner.sock')
  const start = () => listen({ address, bindings: [bind(Content, content)], hop: true, log })
  await using channel = connectOwner(address)
  const client = clientOf(Content, channel)
  const call = () => client.info({ digest: 'd' }, { signal, namespace: 'default' })
  const first = await start()
  await call()
  await vi.waitFor(() => expect(channel.hop?.()).toBeDefined(), 10_000)

  await first[Symbol.asyncDispose]()
  await vi.waitFor(() => expect(channel.hop?.()).toBeUndefined(), 10_000)
  await using _ = await start()

  expect((await call()).info?.digest).toBe('d')
  await vi.waitFor(() => expect(channel.hop?.()).toBeDefined(), 10_000)
  expect((await call()).info?.digest).toBe('d')
})

test('a socket that somebody serves is not taken over, a stale one is', async () => {
  const address = join(folder, 'taken.sock')
  const other = createServer().listen(address)

  const refused = listen({ address, bindings: [], log })
  await expect(refused).rejects.toMatchObject({ code: 'failed-precondition' })
  await new Promise((resolve) => other.close(resolve))

  await using _ = await listen({ address, bindings: [], log })
})

test('a socket is not taken over from somebody who is too busy to answer', async () => {
  const address = join(folder, 'busy.sock')
  const other = createServer().listen({ path: address, backlog: 1 })
  const queue = Array.from({ length: 5 }, () => dial(address).on('error', () => undefined)) // more than it has room for

  const refused = listen({ address, bindings: [], log })

  await expect(refused).rejects.toMatchObject({ code: 'failed-precondition' })
  for (const socket of queue) socket.destroy()
  await new Promise((resolve) => other.close(resolve))
})

test('a socket path that the kernel would cut is refused with its length', async () => {
  const refused = listen({ address: `/tmp/${'x'.repeat(103)}`, bindings: [], log })

  await expect(refused).rejects.toMatchObject({ code: 'invalid-argument', message: expect.stringContaining('108') })
})
