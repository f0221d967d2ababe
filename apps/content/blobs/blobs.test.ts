import { rm } from 'node:fs/promises'
import { sha256Of } from '@gantry/model/digest'
import { parseNamespace } from '@gantry/model/namespace'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openTestParts, type TestParts } from '../testing/parts.ts'

const NS = parseNamespace('default')
const OTHER = parseNamespace('other')
const signal = new AbortController().signal
let parts: TestParts

beforeEach(async () => {
  parts = await openTestParts()
})
afterEach(() => parts[Symbol.asyncDispose]())

async function bring(text: string, namespace = NS, labels = {}) {
  const opening = { namespace, lease: undefined, ref: text, expected: undefined, total: 0n }
  await using writer = await parts.ingests.open(opening, signal)
  await writer.append(Buffer.from(text))
  return await writer.commit({ total: 0n, expected: undefined, labels }, signal)
}

async function read(text: string, offset: number, size: number, chunk = 4) {
  const chunks = []
  const into = () => ({ data: Buffer.alloc(chunk) })
  const range = { offset: BigInt(offset), size: BigInt(size), into }
  for await (const [{ data }, length] of parts.blobs.read(NS, sha256Of(text), range))
    chunks.push(data.toString('utf8', 0, length))
  return chunks
}

test.each([
  [0, 0, ['hell', 'o wo', 'rld']],
  [-5, 0, ['hell', 'o wo', 'rld']],
  [6, 0, ['worl', 'd']],
  [6, 3, ['wor']],
  [6, 99, ['worl', 'd']],
  [11, 0, []],
])('reading from %i, %i bytes', async (offset, size, chunks) => {
  await bring('hello world')

  expect(await read('hello world', offset, size)).toEqual(chunks)
})

test('reading behind the end is out of range', async () => {
  await bring('hello world')

  await expect(read('hello world', 12, 0)).rejects.toMatchObject({ code: 'out-of-range' })
})

test('a blob whose bytes are gone is not found, as in containerd', async () => {
  await rm(parts.folder.blobPath(await bring('hello')))

  await expect(read('hello', 0, 0)).rejects.toMatchObject({ code: 'not-found' })
})

test('a blob of another namespace does not exist', async () => {
  const digest = await bring('hello', OTHER)

  expect(() => parts.blobs.info(NS, digest)).toThrow('not found')
  expect(() => parts.blobs.locate(NS, digest)).toThrow('not found')
  await expect(parts.blobs.remove({ namespace: NS, lease: undefined }, digest)).rejects.toMatchObject({
    code: 'not-found',
  })
})

test('blobs are listed by digest and filtered by label', async () => {
  const digests = [await bring('a', NS, { kind: 'x' }), await bring('b', NS, { kind: 'y' }), await bring('c')]
  const list = (filters: string[]) => Array.from(parts.blobs.list(NS, filters), ({ digest }) => digest)

  expect(list([])).toEqual(digests.sort())
  expect(list(['labels.kind==x'])).toEqual([sha256Of('a')])
  expect(list(['labels.kind'])).toHaveLength(2)
  expect(list([`digest==${sha256Of('c')}`])).toEqual([sha256Of('c')])
  expect(list(['size'])).toEqual([])
})

test('labels are replaced whole, or one by one, and an empty one goes', async () => {
  const digest = await bring('a', NS, { one: '1', two: '2' })

  const single = await parts.blobs.update(NS, digest, {
    labels: { two: '', one: 'x' },
    paths: [{ field: 'labels', key: 'two' }],
  })
  expect(single.labels).toEqual({ one: '1' })
  const whole = await parts.blobs.update(NS, digest, { labels: { three: '3' }, paths: [] })
  expect(whole.labels).toEqual({ three: '3' })
  expect(parts.blobs.info(NS, digest)).toMatchObject({ labels: { three: '3' }, size: 1n })
})

test('deleting takes the name of one namespace, tells so, and leaves the lease', async () => {
  const digest = await bring('a')
  await bring('a', OTHER)
  await parts.leases.add({ namespace: NS, lease: 'held' }, { content: digest }, signal)

  await parts.blobs.remove({ namespace: NS, lease: 'held' }, digest)

  expect(parts.blobs.has(NS, digest)).toBe(false)
  expect(parts.blobs.has(OTHER, digest)).toBe(true)
  expect(parts.events.at(-1)).toMatchObject({ namespace: 'default', topic: '/content/delete', event: { digest } })
  expect([...(parts.leases.held.get('held') ?? [])]).toEqual([])
  expect([...parts.blobs.namespaces()]).toEqual(['other'])
})
