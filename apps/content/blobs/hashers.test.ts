import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Worker } from 'node:worker_threads'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { createHashers, type Hashers } from './hashers.ts'

const threads = vi.hoisted((): Worker[] => [])
vi.mock('node:worker_threads', async (original) => {
  const all = await original<typeof import('node:worker_threads')>()
  return {
    ...all,
    Worker: class extends all.Worker {
      constructor(...args: ConstructorParameters<typeof Worker>) {
        super(...args)
        threads.push(this)
      }
    },
  }
})

const OFFLINE = { proxy: { httpProxy: '', httpsProxy: '', noProxy: '' }, stallMs: 1000 }
let dir: string
let hashers: Hashers

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'gantry-hashers-'))
  hashers = createHashers(2, OFFLINE)
})
afterAll(async () => {
  await hashers[Symbol.asyncDispose]()
  await rm(dir, { recursive: true, force: true })
})

const hexOf = (data: Uint8Array) => createHash('sha256').update(data).digest('hex')

test('files that grow side by side each have the digest of what was told of them', async () => {
  const files = [randomBytes(3_000_000), randomBytes(1_000_001), randomBytes(10)]

  const digests = await Promise.all(
    files.map(async (data, at) => {
      await using file = await open(join(dir, `${at}`), 'w+')
      await using follower = hashers.follow(file.fd)
      const half = data.length >> 1
      await file.write(data, 0, half, 0)
      follower.grown(half, 'now')
      const first = await follower.digest()
      await file.write(data, half, data.length - half, half)
      follower.grown(data.length, 'later')
      return [first, await follower.digest()]
    }),
  )

  expect(digests).toEqual(files.map((data) => [hexOf(data.subarray(0, data.length >> 1)), hexOf(data)]))
})

test('a file that is shorter than was told fails its digest, and only its own', async () => {
  await using file = await open(join(dir, 'short'), 'w+')
  await file.write(Buffer.from('abc'))
  await using wrong = hashers.follow(file.fd)
  await using right = hashers.follow(file.fd)
  wrong.grown(4, 'now')
  right.grown(3, 'now')

  await expect(wrong.digest()).rejects.toThrow('The file ends at 3, before 4')
  expect(await right.digest()).toBe(hexOf(Buffer.from('abc')))
})

test('a thread that ended is replaced: who was with it fails, who comes next does not', async () => {
  threads.length = 0
  await using own = createHashers(1, OFFLINE)
  await using file = await open(join(dir, 'killed'), 'w+')
  await file.write(Buffer.from('abc'))
  await using first = own.follow(file.fd)
  first.grown(3, 'now')
  expect(await first.digest()).toBe(hexOf(Buffer.from('abc')))

  await threads[0]?.terminate()
  await using next = own.follow(file.fd)
  next.grown(3, 'now')

  await expect(first.digest()).rejects.toThrow('A hashing thread has ended')
  expect(await next.digest()).toBe(hexOf(Buffer.from('abc')))
})

test('whoever waits when the threads end is told so', async () => {
  const own = createHashers(1, OFFLINE)
  await using file = await open(join(dir, 'ended'), 'w+')
  const follower = own.follow(file.fd)
  const waiting = expect(follower.digest()).rejects.toThrow('A hashing thread has ended')
  await own[Symbol.asyncDispose]()

  await waiting
  await expect(follower.digest()).rejects.toThrow('A hashing thread has ended')
})
