import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, connect as dial, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { Call } from './call.ts'
import { type Hop, openHop } from './hop-client.ts'
import { serveHop } from './hop-server.ts'
import type { Reply } from './hop-wire.ts'

const NOTHING = Buffer.alloc(0)
const nothing = () => undefined
const HEADERS = [[':path', '/nobody/Knows']] as const

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gantry-hop-'))
})
afterEach(() => rm(folder, { recursive: true }))

/** length, number, kind, payload */
function frame(kind: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9)
  head.writeUInt32BE(5 + payload.length, 0)
  head.writeUInt32BE(1, 4)
  head[8] = kind
  return Buffer.concat([head, payload])
}

function call(hop: Hop): Promise<Reply | undefined> {
  return new Promise<Reply | undefined>((resolve) =>
    hop.open(HEADERS, NOTHING, {
      data: nothing,
      room: nothing,
      reply: resolve,
      lost: () => resolve(undefined),
      unseen: nothing,
    }),
  )
}

async function open(address: string): Promise<{ hop: Hop } & Disposable> {
  const { promise, resolve } = Promise.withResolvers<Hop>()
  const opened = openHop(address, resolve, () => undefined)
  return { hop: await promise, [Symbol.dispose]: () => opened[Symbol.dispose]() }
}

/** Each call ends well when it is served. */
function serveCalls(address: string, serve: (call: Call) => Promise<void>): Promise<AsyncDisposable> {
  return serveHop(address, (_path, call) => {
    void serve(call).then(() => call.end({ code: 0, details: '' }))
  })
}

test.each([
  ['a request without headers', frame(1, NOTHING)],
  ['headers longer than their frame', frame(1, Buffer.from([0, 0, 1, 0, 65]))],
  ['credit without a number', frame(6, NOTHING)],
  ['a frame of a kind that there is not', frame(7, NOTHING)],
  ['a frame shorter than its own head', Buffer.alloc(9)],
  ['a frame without an end', Buffer.alloc(9, 0xff)],
])('%s costs its sender the connection, and nobody else anything', async (_name, bytes) => {
  const address = join(folder, 'hop')
  await using _server = await serveHop(address, (_path, call) => call.end({ code: 12, details: '' }))
  using other = await open(address)

  const wrong = dial(address)
  wrong.write(bytes)
  await once(wrong.resume(), 'close')

  expect((await call(other.hop))?.status).toMatchObject({ code: 12 })
})

test.each([
  ['too short', NOTHING],
  ['whose details are longer than it', Buffer.from([0, 0, 0, 1, 0])],
])('a reply %s ends the call as one that was lost', async (_name, payload) => {
  const address = join(folder, 'hop')
  const server = createServer((socket: Socket) => socket.on('data', () => socket.write(frame(2, payload))))
  await new Promise<void>((resolve) => server.listen(address, resolve))
  using caller = await open(address)

  expect(await call(caller.hop)).toBeUndefined()

  server.close()
})

test('a peer that leaves says which calls it never saw, and is lost once', async () => {
  const address = join(folder, 'hop')
  const closed = Promise.withResolvers<void>()
  const server = createServer((socket: Socket) => {
    socket.on('error', nothing).on('close', () => closed.resolve())
    socket.once('data', () => socket.end(frame(7, Buffer.alloc(4)))) // the last it saw: none
  })
  await new Promise<void>((resolve) => server.listen(address, resolve))
  const hop = Promise.withResolvers<Hop>()
  let lost = 0
  using _opened = openHop(address, hop.resolve, () => void lost++)
  const { open: openCall } = await hop.promise

  const heard = await new Promise((resolve) =>
    openCall(HEADERS, NOTHING, {
      ...{ data: nothing, room: nothing, reply: () => resolve('reply') },
      ...{ lost: () => resolve('lost'), unseen: () => resolve('unseen') },
    }),
  )
  await closed.promise
  await new Promise((resolve) => setImmediate(resolve))

  expect([heard, lost]).toEqual(['unseen', 1])
  server.close()
})

test('a caller that takes nothing holds up what is sent to it, and nobody else', async () => {
  const address = join(folder, 'hop')
  const COUNT = 200
  const MESSAGE = Buffer.alloc(100_000)
  let sent = 0
  await using _server = await serveCalls(address, async (call) => {
    for (; call.header('x-slow') && sent < COUNT; sent++) await call.send(MESSAGE)
  })
  using caller = await open(address)
  const waiting: (() => void)[] = []
  let received = 0
  let slow = true

  const over = new Promise<Reply>((reply) =>
    caller.hop.open([...HEADERS, ['x-slow', '1']], NOTHING, {
      data(piece, taken) {
        received += piece.length
        if (slow) waiting.push(taken)
        else taken()
      },
      ...{ room: nothing, reply, lost: nothing, unseen: nothing },
    }),
  )
  await vi.waitFor(() => expect(waiting.length).toBeGreaterThan(0), 10_000)
  const others = await call(caller.hop)
  const held = sent
  slow = false
  for (const taken of waiting) taken()
  const { status } = await over

  expect([others?.status.code, status.code]).toEqual([0, 0])
  expect(held).toBeLessThan(COUNT / 2)
  expect(received).toBe(COUNT * (MESSAGE.length + 5))
})

test('a caller sends no faster than it is read, and the rest when it is', async () => {
  const address = join(folder, 'hop')
  const read = Promise.withResolvers<void>()
  const COUNT = 100
  const sizes: number[] = []
  await using _server = await serveCalls(address, async (call) => {
    await read.promise
    for await (const message of call.messages()) sizes.push(message.length)
  })
  using caller = await open(address)
  const message = Buffer.alloc(50_000)
  const framed = Buffer.concat([Buffer.of(0, 0, 0, 0xc3, 0x50), message])

  const over = new Promise<Reply>((reply) => {
    let left = COUNT
    const more = () => {
      while (left-- > 0) if (!onward.write(framed)) return read.resolve() // told to wait before anything is read
      onward.end()
    }
    const onward = caller.hop.open(HEADERS, NOTHING, {
      ...{ data: nothing, room: more, reply, lost: nothing, unseen: nothing },
    })
    more()
  })
  const { status } = await over

  expect(status.code).toBe(0)
  expect(sizes).toEqual(Array.from({ length: COUNT }, () => message.length))
})
