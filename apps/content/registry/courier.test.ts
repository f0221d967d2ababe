import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, open, readFile, rm } from 'node:fs/promises'
import { createServer, type RequestListener } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createHashers, type Hashers } from '../blobs/hashers.ts'
import { causeOf } from './transport.ts'

const NETWORK = { proxy: { httpProxy: '', httpsProxy: '', noProxy: '' }, stallMs: 300 }
const none = new AbortController().signal
let dir: string
let hashers: Hashers
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'gantry-courier-'))
  hashers = createHashers(1, NETWORK)
})
afterEach(async () => {
  await hashers[Symbol.asyncDispose]()
  await rm(dir, { recursive: true, force: true })
})

const hexOf = (data: Uint8Array) => createHash('sha256').update(data).digest('hex')

async function serve(listener: RequestListener) {
  const server = createServer(listener).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  return {
    url: new URL(`http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}/blob`),
    [Symbol.dispose]() {
      server.closeAllConnections()
      server.close()
    },
  }
}

test('a body goes behind what the file has, and the digest is of both', async () => {
  const bytes = randomBytes(3_000_000)
  using server = await serve((_, response) => response.end(bytes.subarray(1_000_000)))
  await using file = await open(join(dir, 'data'), 'w+')
  await using follower = hashers.follow(file.fd)
  await file.write(bytes, 0, 1_000_000, 0)
  follower.grown(1_000_000, 'later')

  await using answer = await follower.courier.exchange({ method: 'GET', url: server.url, headers: {} }, none)
  let size = 1_000_000
  for await (const { length } of answer.save?.({ at: 1_000_000, skip: 0, limit: 2_000_000 }) ?? []) size += length
  follower.grown(size, 'later')

  expect(size).toBe(bytes.length)
  expect(await follower.digest()).toBe(hexOf(bytes))
  expect((await readFile(join(dir, 'data'))).equals(bytes)).toBe(true)
})

test('what is written over is hashed again', async () => {
  using server = await serve((request, response) => response.end(`${request.url === '/blob' ? 'new' : 'old'} bytes`))
  await using file = await open(join(dir, 'data'), 'w+')
  await using follower = hashers.follow(file.fd)
  for (const url of [new URL('/another', server.url), server.url]) {
    await using answer = await follower.courier.exchange({ method: 'GET', url, headers: {} }, none)
    for await (const _ of answer.save?.({ at: 0, skip: 0, limit: 9 }) ?? []);
  }
  follower.grown(9, 'later')

  expect(await readFile(join(dir, 'data'), 'utf8')).toBe('new bytes')
  expect(await follower.digest()).toBe(hexOf(Buffer.from('new bytes')))
})

test('a refusal is heard with what it says, and nothing is written', async () => {
  using server = await serve((_, response) => response.writeHead(403, { 'x-why': 'because' }).end('go away'))
  await using file = await open(join(dir, 'data'), 'w+')
  await using follower = hashers.follow(file.fd)

  await using answer = await follower.courier.exchange({ method: 'GET', url: server.url, headers: {} }, none)
  let text = ''
  for await (const piece of answer.body) text += Buffer.from(piece).toString()

  expect([answer.status, answer.header('X-Why'), text, answer.save]).toEqual([403, 'because', 'go away', undefined])
  expect((await file.stat()).size).toBe(0)
})

test('a connection that breaks is an error with its code, after the bytes that came', async () => {
  using server = await serve((_, response) => {
    response.writeHead(200, { 'content-length': 100 })
    response.write('some', () => response.destroy())
  })
  await using file = await open(join(dir, 'data'), 'w+')
  await using follower = hashers.follow(file.fd)
  const exchange = follower.courier.exchange({ method: 'GET', url: server.url, headers: {} }, none)
  let came = 0
  const reading = (async () => {
    await using answer = await exchange
    for await (const { length } of answer.save?.({ at: 0, skip: 0, limit: 100 }) ?? []) came += length
  })()

  const error = await reading.catch((error: unknown) => error)
  expect(causeOf(error)?.code).toBe('unavailable')
  expect((await file.stat()).size).toBe(came)
})

test('whoever stops waiting is let go at once, and nothing is written after the follower is gone', async () => {
  using server = await serve((_, response) => {
    const timer = setInterval(() => response.write('more'), 1)
    response.on('close', () => clearInterval(timer))
  })
  await using file = await open(join(dir, 'data'), 'w+')
  const stop = new AbortController()
  {
    await using follower = hashers.follow(file.fd)
    const reading = (async () => {
      await using answer = await follower.courier.exchange({ method: 'GET', url: server.url, headers: {} }, stop.signal)
      for await (const { length } of answer.save?.({ at: 0, skip: 0, limit: 1_000_000 }) ?? [])
        if (length > 0) stop.abort(new Error('no more'))
    })()
    await expect(reading).rejects.toThrow('no more')
  }
  const { size } = await file.stat()
  await new Promise((resolve) => setTimeout(resolve, 30)) // a write that comes too late would come now
  expect((await file.stat()).size).toBe(size)
})

test.each(['all at once', 'never to its end'])(
  'a full disk ends an exchange, and not the thread: what comes %s',
  async (how) => {
    let dropped = Promise.withResolvers<void>()
    using server = await serve((_, response) => {
      response.on('close', dropped.resolve)
      if (how === 'all at once') response.end('bytes')
      else response.write('bytes')
    })
    await using full = await open('/dev/full', 'r+')
    await using file = await open(join(dir, 'data'), 'w+')
    const fetch = async (fd: number) => {
      await using follower = hashers.follow(fd)
      await using answer = await follower.courier.exchange({ method: 'GET', url: server.url, headers: {} }, none)
      for await (const { length } of answer.save?.({ at: 0, skip: 0, limit: 5 }) ?? []) if (length > 0) return length
      return 0
    }

    await expect(fetch(full.fd)).rejects.toMatchObject({ code: 'ENOSPC' })
    await dropped.promise

    dropped = Promise.withResolvers()
    expect(await fetch(file.fd)).toBe(5)
  },
)
