import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type Server, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, expect, test } from 'vitest'
import { BULK_CHUNK, bulkGet } from './bulk.ts'

const STALL_MS = 400
const none = new AbortController().signal
let server: Server | undefined
let asked = ''

afterEach(() => {
  server?.close()
})

/** A server that does this with whoever asks. */
async function serve(answer: (socket: Socket) => unknown): Promise<URL> {
  server = createServer((socket) => {
    socket.on('error', () => undefined)
    socket.once('data', (request) => {
      asked = request.toString()
      void answer(socket)
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  return new URL(`http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}/v2/a/blobs/b?c=d`)
}

async function get(url: URL, signal = none) {
  const answer = await bulkGet({ url, headers: { accept: '*/*' } }, STALL_MS, signal)
  if (!answer) return undefined
  const pieces: Buffer[] = []
  for await (const piece of answer.body) pieces.push(Buffer.from(piece))
  return { answer, body: Buffer.concat(pieces) }
}

const head = (length: number) => `HTTP/1.1 200 OK\r\nContent-Length: ${length}\r\nX-Two: a\r\nx-two: b\r\n\r\n`

test('a large body comes whole, for a consumer that is quick and for one that writes a piece while the next comes', async () => {
  const data = randomBytes(7 * BULK_CHUNK + 123)
  const url = await serve((socket) => socket.end(Buffer.concat([Buffer.from(head(data.length)), data])))

  const quick = await get(url)
  expect(quick?.body.equals(data)).toBe(true)
  expect(quick?.answer.headers('X-Two')).toEqual(['a', 'b'])
  expect(asked).toMatch(/^GET \/v2\/a\/blobs\/b\?c=d HTTP\/1.1\r\naccept: \*\/\*\r\nhost: 127.0.0.1:\d+\r\n/)

  const slow = await bulkGet({ url, headers: {} }, STALL_MS, none)
  const pieces: Buffer[] = []
  let writing = Promise.resolve()
  for await (const piece of slow?.body ?? []) {
    await writing
    writing = sleep(20).then(() => void pieces.push(Buffer.from(piece)))
  }
  await writing
  expect(Buffer.concat(pieces).equals(data)).toBe(true)
})

test('a consumer that takes longer than the stall time is no stall, a server that falls silent is one', async () => {
  const data = randomBytes(2 * BULK_CHUNK)
  const url = await serve((socket) => socket.write(Buffer.concat([Buffer.from(head(data.length + 1)), data])))
  const answer = await bulkGet({ url, headers: {} }, STALL_MS, none)
  let size = 0

  const reading = (async () => {
    for await (const piece of answer?.body ?? []) {
      size += piece.length
      if (size < BULK_CHUNK) await sleep(2 * STALL_MS)
    }
  })()

  await expect(reading).rejects.toMatchObject({ code: 'UND_ERR_BODY_TIMEOUT' })
  expect(size).toBe(data.length)
})

test('a body that drips is passed on as it comes', async () => {
  const url = await serve(async (socket) => {
    socket.write(head(3))
    for (const byte of 'abc') {
      await sleep(STALL_MS / 2 + 50)
      socket.write(byte)
    }
  })
  const answer = await bulkGet({ url, headers: {} }, STALL_MS, none)
  const pieces: string[] = []
  for await (const piece of answer?.body ?? []) pieces.push(Buffer.from(piece).toString())

  expect(pieces).toEqual(['a', 'b', 'c'])
})

test('a body that ends early fails after its bytes, and one that is longer is cut', async () => {
  const short = await serve((socket) => socket.end(`${head(10)}abc`))
  await expect(get(short)).rejects.toMatchObject({ code: 'UND_ERR_SOCKET' })
  server?.close()
  const long = await serve((socket) => socket.end(`${head(2)}abc`))
  expect((await get(long))?.body.toString()).toBe('ab')
})

test.each([
  ['no length', 'HTTP/1.1 200 OK\r\n\r\nabc'],
  ['chunks', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
  ['two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab'],
  ['a length with chunks', 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\na'],
  ['a header that is none', 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\n folded\r\n\r\na'],
  ['an interim answer', 'HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n'],
  ['another protocol', 'SSH-2.0-x\r\n\r\n'],
])('an answer with %s is for others to read', async (_, text) => {
  expect(await get(await serve((socket) => socket.end(text)))).toBeUndefined()
})

test('refusals, headers without end, silence and an abort fail as such', async () => {
  const url = await serve((socket) => socket.write(`HTTP/1.1 200 OK\r\nx: ${'y'.repeat(100_000)}`))
  await expect(get(url)).rejects.toMatchObject({ code: 'UND_ERR_HEADERS_OVERFLOW' })
  server?.close()
  const silent = await serve(() => undefined)
  await expect(get(silent)).rejects.toMatchObject({ code: 'UND_ERR_BODY_TIMEOUT' })
  await expect(get(silent, AbortSignal.timeout(50))).rejects.toMatchObject({ name: 'TimeoutError' })
  server?.close()
  await expect(get(silent)).rejects.toMatchObject({ code: 'ECONNREFUSED' })
})

test('what cannot be a header is not sent', async () => {
  const url = await serve(() => undefined)
  const bad = bulkGet({ url, headers: { a: 'b\r\nc: d' } }, STALL_MS, none)
  await expect(bad).rejects.toMatchObject({ code: 'UND_ERR_INVALID_ARG' })
})
