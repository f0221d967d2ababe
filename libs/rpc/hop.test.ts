import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, connect as dial, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Hop, type HopReply, openHop, serveHop } from './hop.ts'

const log = { error: () => undefined, debug: () => undefined }
const NOTHING = Buffer.alloc(0)
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

function call(hop: Hop): Promise<HopReply | undefined> {
  return new Promise((resolve) => hop.call(HEADERS, NOTHING, resolve))
}

async function open(address: string): Promise<{ hop: Hop } & Disposable> {
  const { promise, resolve } = Promise.withResolvers<Hop>()
  const opened = openHop(address, resolve, () => undefined)
  return { hop: await promise, [Symbol.dispose]: () => opened[Symbol.dispose]() }
}

test.each([
  ['a request without headers', frame(1, NOTHING)],
  ['headers longer than their frame', frame(1, Buffer.from([0, 0, 1, 0, 65]))],
  ['a frame shorter than its own head', Buffer.alloc(9)],
  ['a frame without an end', Buffer.alloc(9, 0xff)],
])('%s costs its sender the connection, and nobody else anything', async (_name, bytes) => {
  const address = join(folder, 'hop')
  await using _server = await serveHop(address, new Map(), log)
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
