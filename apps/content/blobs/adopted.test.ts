import { existsSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { sha256Of } from '@gantry/model/digest'
import { parseNamespace } from '@gantry/model/namespace'
import { expect, test } from 'vitest'
import { openTestParts } from '../testing/parts.ts'
import { createIngests } from './ingests.ts'

const NS = parseNamespace('default')
const signal = AbortSignal.timeout(10_000)
const DATA = Buffer.from('proven')
const DIGEST = sha256Of(DATA)

test('an upload that became a blob just before the process ended is not asked for again', async () => {
  await using parts = await openTestParts({ mayShare: false })
  const opening = { namespace: NS, lease: undefined, ref: 'r', expected: DIGEST, total: BigInt(DATA.length) }
  {
    await using writer = await parts.ingests.open(opening, signal)
    await writer.append(DATA)
  }
  const { id = '' } = parts.rows.ingests.get([NS, 'r']) ?? {}
  await using file = await parts.folder.openIngest(id)
  await parts.folder.adopt(id, file, DIGEST) // and then kill -9

  const writer = await parts.ingests.open(opening, signal)
  expect(writer.status().offset).toBe(BigInt(DATA.length))
  await writer.commit({ total: opening.total, expected: DIGEST, labels: {} }, signal)

  expect(parts.blobs.has(NS, DIGEST)).toBe(true)
  expect(await readdir(join(parts.root, 'content', 'ingest'))).toEqual([])
})

test('an upload that said nothing of its digest has only what it became', async () => {
  await using parts = await openTestParts({ mayShare: false })
  const theirs = sha256Of(Buffer.from('secret'))
  const opening = { namespace: NS, lease: undefined, ref: 'r', expected: theirs, total: BigInt(DATA.length) }
  await using other = await parts.ingests.open({ ...opening, namespace: parseNamespace('other') }, signal)
  await other.append(Buffer.from('secret'))
  await other.commit({ ...opening, labels: {} }, signal)
  {
    const write: typeof parts.changes.write = async (fn) => {
      if (existsSync(parts.folder.blobPath(DIGEST))) throw new Error('the disk is full')
      return await parts.changes.write(fn)
    }
    const ingests = createIngests({ ...parts, changes: { write } })
    await using writer = await ingests.open(opening, signal)
    await writer.append(DATA)
    await expect(writer.commit({ ...opening, expected: DIGEST, labels: {} }, signal)).rejects.toThrow(
      'the disk is full',
    )
  }

  {
    await using writer = await parts.ingests.open(opening, signal)
    expect(writer.status().offset).toBe(0n)
  }
})

test('an upload that named no digest is not asked for again either', async () => {
  await using parts = await openTestParts({ mayShare: false })
  const opening = { namespace: NS, lease: undefined, ref: 'r', expected: undefined, total: 0n }
  const write: typeof parts.changes.write = async (fn) => {
    if (existsSync(parts.folder.blobPath(DIGEST))) throw new Error('killed')
    return await parts.changes.write(fn)
  }
  {
    await using writer = await createIngests({ ...parts, changes: { write } }).open(opening, signal)
    await writer.append(DATA)
    await expect(writer.commit({ ...opening, labels: {} }, signal)).rejects.toThrow('killed')
  }

  await using writer = await parts.ingests.open({ ...opening, expected: DIGEST }, signal)
  expect(writer.status().offset).toBe(BigInt(DATA.length))
})

test('another upload does not get what nobody may share', async () => {
  await using parts = await openTestParts({ mayShare: false })
  const opening = { namespace: NS, lease: undefined, ref: 'r', expected: DIGEST, total: BigInt(DATA.length) }
  {
    await using writer = await parts.ingests.open({ ...opening, ref: 'first' }, signal)
    await writer.append(DATA)
    await writer.commit({ total: opening.total, expected: DIGEST, labels: {} }, signal)
    await parts.blobs.remove(opening, DIGEST)
  }

  await using writer = await parts.ingests.open(opening, signal)
  expect(writer.status().offset).toBe(0n)
  await using again = await parts.ingests.open({ ...opening, ref: 'again' }, signal)
  expect(again.status().offset).toBe(0n)
})

test('an upload that stood for a blob one may have does not get another one of that size', async () => {
  await using parts = await openTestParts({ mayShare: false })
  const PUBLIC = Buffer.from('public')
  for (const data of [DATA, PUBLIC]) {
    const opening = {
      namespace: parseNamespace('other'),
      lease: undefined,
      ref: 'r',
      expected: sha256Of(data),
      total: 6n,
    }
    await using writer = await parts.ingests.open(opening, signal)
    await writer.append(data)
    await writer.commit({ ...opening, labels: {} }, signal)
  }
  const ingests = createIngests({ ...parts, mayShare: async (digest) => digest === sha256Of(PUBLIC) })
  const opening = { namespace: NS, lease: undefined, ref: 'r', expected: sha256Of(PUBLIC), total: 6n }
  {
    await using writer = await ingests.open(opening, signal)
    expect(writer.status().offset).toBe(6n)
  }

  await using writer = await ingests.open({ ...opening, expected: DIGEST }, signal)
  expect(writer.status().offset).toBe(0n)
})

test('an upload that is aborted while it is taken up again is gone, and its ref is free', async () => {
  await using parts = await openTestParts()
  const opening = { namespace: NS, lease: undefined, ref: 'r', expected: undefined, total: 6n }
  {
    await using writer = await parts.ingests.open(opening, signal)
    await writer.append(Buffer.from('half'))
  }
  const { openIngest } = parts.folder
  const folder = {
    ...parts.folder,
    async openIngest(id: string) {
      const file = await openIngest(id)
      await parts.ingests.abort(opening, 'r')
      return file
    },
  }
  const ingests = createIngests({ ...parts, folder })

  await expect(ingests.open(opening, signal)).rejects.toMatchObject({ code: 'unavailable' })

  expect([...parts.ingests.ids()]).toEqual([])
  expect(await readdir(join(parts.root, 'content', 'ingest'))).toEqual([])
  await using writer = await parts.ingests.open(opening, signal)
  expect(writer.status().offset).toBe(0n)
})

test('an upload that is aborted while what it stood for is copied leaves nothing', async () => {
  await using parts = await openTestParts()
  const opening = { namespace: NS, lease: undefined, ref: 'r', expected: DIGEST, total: 0n }
  await using first = await parts.ingests.open({ ...opening, namespace: parseNamespace('other') }, signal)
  await first.append(DATA)
  await first.commit({ ...opening, labels: {} }, signal)
  const { openIngest } = parts.folder
  const folder = {
    ...parts.folder,
    async openIngest(id: string) {
      await parts.ingests.abort(opening, 'r')
      return await openIngest(id)
    },
  }
  const writer = await createIngests({ ...parts, folder }).open(opening, signal)

  await writer.append(Buffer.from('more'))
  await expect(writer.append(Buffer.from('more'))).rejects.toMatchObject({ code: 'not-found' })
  await writer[Symbol.asyncDispose]()

  expect([...parts.ingests.ids()]).toEqual([])
  expect(await readdir(join(parts.root, 'content', 'ingest'))).toEqual([])
})
