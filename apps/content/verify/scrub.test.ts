import { existsSync } from 'node:fs'
import { chmod, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Digest, digestParts, sha256Of } from '@gantry/model/digest'
import { parseNamespace } from '@gantry/model/namespace'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openTestParts, type TestParts } from '../testing/parts.ts'
import { createQuarantine } from './quarantine.ts'
import { type Checked, createScrub, type Scrub } from './scrub.ts'

const NS = parseNamespace('default')
const OTHER = parseNamespace('other')
const signal = new AbortController().signal
let parts: TestParts
let scrub: Scrub

beforeEach(async () => {
  parts = await openTestParts()
  scrub = createScrub(parts)
})
afterEach(() => parts[Symbol.asyncDispose]())

async function bring(text: string, namespace = NS, expected?: Digest): Promise<Digest> {
  await using writer = await parts.ingests.open({ namespace, lease: undefined, ref: 'r', expected, total: 0n }, signal)
  if (writer.status().offset === 0n) await writer.append(Buffer.from(text))
  return await writer.commit({ total: 0n, expected, labels: {} }, signal)
}

async function rot(digest: Digest, text: string): Promise<void> {
  await chmod(parts.folder.blobPath(digest), 0o600)
  await writeFile(parts.folder.blobPath(digest), text)
}

async function verify(...digests: Digest[]): Promise<Checked[]> {
  const all = await Array.fromAsync(scrub.run({ digests, bytesPerSecond: 0n }, signal))
  return all.filter(({ outcome }) => outcome !== 'sound')
}

const quarantined = (digest: Digest) => {
  const { algorithm, hex } = digestParts(digest)
  return join(parts.root, 'content', 'quarantine', algorithm, hex)
}

test('sound blobs stay as they are, and progress counts their bytes', async () => {
  const digests = [await bring('one'), await bring('two'), await bring('three', OTHER)].sort()

  const all = await Array.fromAsync(scrub.run({ digests: [], bytesPerSecond: 0n }, signal))

  expect(all.map(({ digest, outcome }) => [digest, outcome])).toEqual(digests.map((digest) => [digest, 'sound']))
  expect(all.at(-1)).toMatchObject({ bytesDone: 11n, bytesTotal: 11n })
  for (const digest of digests) expect(existsSync(parts.folder.blobPath(digest))).toBe(true)
  expect(existsSync(join(parts.root, 'content', 'quarantine'))).toBe(false)
})

test.each([
  ['has a flipped bit', 'hellp'],
  ['is cut short', 'hel'],
  ['is empty', ''],
  ['is longer', 'hello!'],
])('a blob that %s is quarantined in all namespaces, told, and brought again', async (_, rotten) => {
  const sound = await bring('sound')
  const digest = await bring('hello')
  await bring('hello', OTHER)
  await rot(digest, rotten)

  const path = quarantined(digest)
  const reason = `its ${rotten.length} bytes hash to ${sha256Of(rotten)}`
  expect(await verify()).toEqual([
    expect.objectContaining({ digest, outcome: 'quarantined', reason, path, namespaces: ['default', 'other'] }),
  ])

  expect(await readFile(path, 'utf8')).toBe(rotten)
  expect(parts.blobs.has(NS, digest) || parts.blobs.has(OTHER, digest)).toBe(false)
  expect(parts.events.slice(-2)).toEqual([
    expect.objectContaining({
      namespace: 'default',
      topic: '/content/delete',
      event: expect.objectContaining({ digest }),
    }),
    expect.objectContaining({
      namespace: 'other',
      topic: '/content/delete',
      event: expect.objectContaining({ digest }),
    }),
  ])
  expect([...parts.rows.condemned.list()]).toEqual([])
  expect(parts.blobs.has(NS, sound)).toBe(true)
  expect(await bring('hello', NS, digest)).toBe(digest)
  expect(await readFile(parts.folder.blobPath(digest), 'utf8')).toBe('hello')
})

test('a blob without bytes is no longer listed', async () => {
  const digest = await bring('hello')
  await rm(parts.folder.blobPath(digest))

  expect(await verify()).toEqual([
    expect.objectContaining({
      digest,
      outcome: 'missing',
      reason: 'there is no file',
      path: '',
      namespaces: ['default'],
    }),
  ])

  expect(parts.blobs.has(NS, digest)).toBe(false)
  expect(await verify()).toEqual([])
})

test('bytes that nobody has are looked at as well: they could be shared one day', async () => {
  const digest = await bring('hello')
  await parts.blobs.remove({ namespace: NS, lease: undefined }, digest)
  await rot(digest, 'hellp')

  expect(await verify()).toEqual([expect.objectContaining({ digest, outcome: 'quarantined', namespaces: [] })])
})

test('what lies among the blobs and is none is passed over', async () => {
  const digest = await bring('hello')
  await writeFile(join(parts.root, 'content', 'blobs', 'a file'), '')
  await rot(digest, 'hellp')

  expect(await verify()).toEqual([expect.objectContaining({ digest, outcome: 'quarantined' })])
})

test('only the wanted ones are read; one that nobody has is refused before', async () => {
  const [one, two] = [await bring('one'), await bring('two')]
  await rot(one, 'xxx')
  await rot(two, 'xxx')

  await expect(verify(two, sha256Of('absent'))).rejects.toMatchObject({ code: 'not-found' })
  expect(parts.blobs.has(NS, two)).toBe(true)
  expect(await verify(two)).toHaveLength(1)
  expect(parts.blobs.has(NS, one)).toBe(true)
})

test('one verification at a time, and one that is left lets the next one in', async () => {
  await bring('one')
  await bring('two')
  for await (const _ of scrub.run({ digests: [], bytesPerSecond: 0n }, signal)) {
    await expect(verify()).rejects.toMatchObject({ code: 'unavailable' })
    break
  }

  expect(await verify()).toEqual([])
})

test('it reads no faster than wished, and stops when the call ends', async () => {
  await bring('x'.repeat(20_000))
  await bring('y'.repeat(20_000))
  const start = performance.now()
  await Array.fromAsync(scrub.run({ digests: [], bytesPerSecond: 100_000n }, signal))
  expect(performance.now() - start).toBeGreaterThan(350)

  const hangup = AbortSignal.timeout(50)
  await expect(Array.fromAsync(scrub.run({ digests: [], bytesPerSecond: 1000n }, hangup))).rejects.toThrow()
})

test('what a killed process began is finished, whichever step it had reached', async () => {
  const [named, moved, sound] = [await bring('named'), await bring('moved'), await bring('sound')]
  await rot(named, 'nanes')
  await mkdir(join(quarantined(moved), '..'), { recursive: true })
  await rm(parts.folder.blobPath(moved))
  await parts.changes.write(() => {
    for (const digest of [named, moved, sound]) parts.rows.condemned.put([digest], new Uint8Array())
  })

  await createScrub(parts).resume(AbortSignal.abort(new Error('told to stop'))) // left to the next one
  expect([...parts.rows.condemned.list()]).not.toEqual([])
  await createScrub(parts).resume(signal)

  expect([named, moved, sound].map((digest) => parts.blobs.has(NS, digest))).toEqual([false, false, true])
  expect(await readFile(quarantined(named), 'utf8')).toBe('nanes')
  expect([...parts.rows.condemned.list()]).toEqual([])
})

test('sound bytes that came under the name meanwhile are left alone, and so is who has them', async () => {
  const digest = await bring('hello')

  expect(await createQuarantine(parts).take(digest, 1n)).toEqual([])

  expect(parts.blobs.has(NS, digest)).toBe(true)
  expect(await readFile(parts.folder.blobPath(digest), 'utf8')).toBe('hello')
})

test('an upload that meant to share a blob that rotted has to bring it', async () => {
  const digest = await bring('hello')
  await rot(digest, 'hellp')
  const opening = { namespace: OTHER, lease: undefined, ref: 's', expected: digest, total: 0n }
  await using writer = await parts.ingests.open(opening, signal)
  expect(writer.status().offset).toBe(5n)

  await verify()

  await expect(writer.commit({ total: 0n, expected: digest, labels: {} }, signal)).rejects.toMatchObject({
    code: 'failed-precondition',
  })
  expect(parts.blobs.has(OTHER, digest)).toBe(false)
})
