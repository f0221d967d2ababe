import { existsSync } from 'node:fs'
import { mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { sha256Of } from '@gantry/model/digest'
import { parseNamespace } from '@gantry/model/namespace'
import type { Keeper } from '@gantry/service/collection'
import { expect, test } from 'vitest'
import { createBlobs } from './blobs/blobs.ts'
import { createIngests } from './blobs/ingests.ts'
import { openCollection } from './collect.ts'
import { createStreams } from './streaming/streams.ts'
import { openTestParts } from './testing/parts.ts'

const A = parseNamespace('a')
const B = parseNamespace('b')
const BYTES = Buffer.from('some bytes')
const DIGEST = sha256Of(BYTES)
const signal = AbortSignal.timeout(30_000)

async function open() {
  const parts = await openTestParts()
  const kept = openCollection(parts)
  const watched = { ...parts, rows: kept.rows, changes: kept.changes }
  const ingests = createIngests(watched)
  const blobs = createBlobs(watched)
  const streams = createStreams()
  const upload = async (namespace = A, ref = 'r') => {
    const writer = await ingests.open({ namespace, lease: undefined, ref, expected: DIGEST, total: 0n }, signal)
    if (writer.status().offset === 0n) await writer.append(BYTES)
    return writer
  }
  const commit = async (namespace = A) =>
    (await upload(namespace)).commit({ total: 0n, expected: DIGEST, labels: { 'containerd.io/gc.root': '1' } }, signal)
  return {
    ...parts,
    ...kept,
    ingests,
    blobs,
    upload,
    commit,
    streams,
    keeper: kept.keeper({ isBusy: ingests.isBusy, streams }),
  }
}

const named = (keeper: Keeper) => [...keeper.nodes()].map(({ thing }) => `${thing.namespace} ${thing.kind} ${thing.id}`)

test('bytes go when the last namespace has lost the blob, and not before', async () => {
  await using at = await open()
  await at.commit(A)
  await at.commit(B)
  const thing = { kind: 'content', id: DIGEST }
  expect(named(at.keeper)).toEqual([`a content ${DIGEST}`, `b content ${DIGEST}`])

  expect(await at.keeper.sweep([{ ...thing, namespace: A }])).toBe(1)
  await at.keeper.clean()
  expect(existsSync(at.folder.blobPath(DIGEST))).toBe(true)

  await at.blobs.remove({ namespace: B, lease: undefined }, DIGEST)
  await at.keeper.clean()
  expect(existsSync(at.folder.blobPath(DIGEST))).toBe(false)
  expect(await at.keeper.sweep([{ ...thing, namespace: A }])).toBe(0)
})

test('bytes of what was swept go, too', async () => {
  await using at = await open()
  await at.commit(A)

  await at.keeper.sweep([{ namespace: A, kind: 'content', id: DIGEST }])
  await at.keeper.clean()

  expect(existsSync(at.folder.blobPath(DIGEST))).toBe(false)
})

test('the bytes of a blob stay while an upload stands for it', async () => {
  await using at = await open()
  await at.commit(A)
  const writer = await at.upload(B)
  await at.blobs.remove({ namespace: A, lease: undefined }, DIGEST)

  await at.keeper.clean()
  await writer.commit({ total: 0n, expected: DIGEST, labels: {} }, signal)

  expect(existsSync(at.folder.blobPath(DIGEST))).toBe(true)
  expect(at.blobs.has(B, DIGEST)).toBe(true)
})

test('bytes that cannot be moved away now are tried again', async () => {
  await using at = await open()
  await at.commit(A)
  await mkdir(at.folder.asidePath(DIGEST)) // something of a stranger is in the way
  await at.blobs.remove({ namespace: A, lease: undefined }, DIGEST)
  await expect(at.keeper.clean()).rejects.toThrow('EISDIR')
  await rm(at.folder.asidePath(DIGEST), { recursive: true })

  await at.keeper.clean()
  expect(existsSync(at.folder.blobPath(DIGEST))).toBe(false)
})

test('bytes that a commit is about to name stay, and are looked at again', async () => {
  await using at = await open()
  await at.commit(A)
  const claim = at.folder.claim(DIGEST)
  await at.blobs.remove({ namespace: A, lease: undefined }, DIGEST)

  await at.keeper.clean()
  expect(existsSync(at.folder.blobPath(DIGEST))).toBe(true)

  claim[Symbol.dispose]()
  await at.keeper.clean()
  expect(existsSync(at.folder.blobPath(DIGEST))).toBe(false)
})

test('an upload that somebody is at stays; one that nobody goes on with goes with its bytes', async () => {
  await using at = await open()
  const writer = await at.upload()
  await writer.append(BYTES)
  const [path, thing] = [writer.path(), { namespace: A, kind: 'ingests', id: 'r' }]

  expect(at.keeper.node(thing)?.root).toBe('upload')
  expect(await at.keeper.sweep([thing])).toBe(0)
  await writer[Symbol.asyncDispose]()
  expect(at.keeper.node(thing)).toMatchObject({ root: 'unfinished upload', rootUntilMs: expect.any(Number) })

  expect(await at.keeper.sweep([thing])).toBe(1)
  await at.keeper.clean()
  expect(existsSync(path)).toBe(false)
})

test('an upload whose end could not be recorded keeps its bytes', async () => {
  await using at = await open()
  const writer = await at.upload()
  await writer[Symbol.asyncDispose]()
  let isFull = true
  const changes: typeof at.changes = {
    write: (fn, until) =>
      at.changes.write((emit) => {
        const result = fn(emit)
        if (isFull) throw new Error('the disk is full')
        return result
      }, until),
  }
  const keeper = openCollection({ ...at, changes }).keeper({ isBusy: at.ingests.isBusy, streams: at.streams })

  await expect(keeper.sweep([{ namespace: A, kind: 'ingests', id: 'r' }])).rejects.toThrow('the disk is full')
  isFull = false
  await keeper.clean()

  expect(existsSync(writer.path())).toBe(true)
})

test('bytes that a crash left without a name go, unless an upload may come back for them; links of strangers are passed over', async () => {
  await using before = await openTestParts()
  const stray = Buffer.from('nobody knows these')
  await writeFile(before.folder.blobPath(sha256Of(stray)), stray)
  const writer = await before.ingests.open(
    { namespace: A, lease: undefined, ref: 'r', expected: DIGEST, total: BigInt(BYTES.length) },
    signal,
  )
  await writer.append(BYTES)
  await rename(writer.path(), before.folder.blobPath(DIGEST)) // and killed
  await writer[Symbol.asyncDispose]()

  const loop = before.folder.blobPath(sha256Of('a link to itself'))
  await symlink(loop, loop)
  await symlink('nowhere', join(before.folder.root, 'blobs', 'link'))

  await openCollection(before)
    .keeper({ isBusy: () => false, streams: createStreams() })
    .clean()

  expect(existsSync(before.folder.blobPath(sha256Of(stray)))).toBe(false)
  expect(existsSync(before.folder.blobPath(DIGEST))).toBe(true)
})

test('a stream is told with the lease it was opened under, and ends when it is swept', async () => {
  await using at = await open()
  const nobody = { next: async () => ({ done: true as const, value: undefined }) }
  using stream = at.streams.open({ namespace: 'a', id: 's', lease: 'l' }, nobody, signal)
  using _free = at.streams.open({ namespace: '', id: 's' }, nobody, signal)
  const thing = { namespace: 'a', kind: 'streams', id: 's' }

  expect([...at.keeper.nodes()].map(({ thing, heldBy }) => ({ ...thing, heldBy }))).toEqual([
    { ...thing, heldBy: [{ kind: 'leases', id: 'l' }] },
    { ...thing, namespace: '', heldBy: [] },
  ])
  expect(await at.keeper.sweep([thing, { ...thing, id: 'other' }])).toBe(1)

  for await (const _ of stream.outgoing()) expect.unreachable('it is over')
  expect(() => at.streams.get('a', 's')).toThrow('not found')
  expect(at.streams.get('', 's')).toBeDefined()
})

test('a stream that took the name of a swept one since the scan goes on', async () => {
  await using at = await open()
  const nobody = { next: async () => ({ done: true as const, value: undefined }) }
  const first = at.streams.open({ namespace: 'a', id: 's', lease: 'l' }, nobody, signal)
  Array.from(at.keeper.nodes())
  first[Symbol.dispose]()
  using _second = at.streams.open({ namespace: 'a', id: 's', lease: 'other' }, nobody, signal)

  await at.keeper.sweep([{ namespace: 'a', kind: 'streams', id: 's' }])

  expect(at.streams.get('a', 's')).toBeDefined()
})
