import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { Fault } from '@gantry/model/fault'
import { parseNamespace } from '@gantry/model/namespace'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openTestParts, type TestParts } from '../testing/parts.ts'
import { expireIngests, startExpiry } from './expire.ts'

const NS = parseNamespace('default')
const DAY_MS = 24 * 3600 * 1000
const signal = new AbortController().signal
let parts: TestParts

beforeEach(async () => {
  parts = await openTestParts()
})
afterEach(() => parts[Symbol.asyncDispose]())

const opening = (ref: string, lease?: string) => ({ namespace: NS, lease, ref, expected: undefined, total: 0n })

async function begin(ref: string, lease?: string): Promise<void> {
  await using writer = await parts.ingests.open(opening(ref, lease), signal)
  await writer.append(Buffer.from(ref))
}

const after = (ms: number) => ({ ...parts, isBusy: parts.ingests.isBusy, now: () => Date.now() + ms })
const refs = async () => (await Array.fromAsync(parts.ingests.list(NS))).map(({ ref }) => ref)
const folders = () => readdir(join(parts.root, 'content', 'ingest'))

test('an upload without a lease goes after a day, with its bytes, and not before', async () => {
  await begin('a')

  expect(await expireIngests(after(DAY_MS - 10_000), signal)).toBe(0)
  expect(await refs()).toEqual(['a'])
  expect(await expireIngests(after(DAY_MS + 1), signal)).toBe(1)
  expect([await refs(), await folders()]).toEqual([[], []])
})

test('going on with an upload gives it another day', async () => {
  await begin('a')
  const later = after(DAY_MS - 10_000)
  await parts.changes.write(() => {
    const found = parts.rows.ingests.get([NS, 'a'])
    if (found) parts.rows.ingests.put([NS, 'a'], { ...found, startedAtMs: found.startedAtMs - DAY_MS, expiresAtMs: 1 })
  })
  await begin('a')

  expect(await expireIngests(later, signal)).toBe(0)
})

test('one that a writer is at stays, however old it is', async () => {
  await using writer = await parts.ingests.open(opening('a'), signal)
  await writer.append(Buffer.from('a'))

  expect(await expireIngests(after(30 * DAY_MS), signal)).toBe(0)

  await writer.append(Buffer.from('b'))
})

test('one that a lease holds stays; once the lease is gone it goes', async () => {
  await begin('born-with-it', 'held')
  await begin('added-later')
  await parts.leases.add({ namespace: NS, lease: 'held' }, { ingest: 'added-later' }, signal)

  expect(await expireIngests(after(30 * DAY_MS), signal)).toBe(0)
  parts.leases.held.delete('held')
  expect(await expireIngests(after(30 * DAY_MS), signal)).toBe(2)
})

test('one that is taken up while the leases are looked at stays', async () => {
  await begin('a')
  await using stack = new AsyncDisposableStack()
  const isHeld = async () => {
    stack.use(await parts.ingests.open(opening('a'), signal))
    return false
  }

  expect(await expireIngests({ ...after(30 * DAY_MS), leases: { ...parts.leases, isHeld } }, signal)).toBe(0)
  expect(await refs()).toEqual(['a'])
})

test('when nobody knows the leases nothing goes, and the timer lives on', async () => {
  await begin('a')
  const isHeld = () => Promise.reject(new Fault('unavailable', 'metadata is away'))
  const said: string[] = []
  const log = { error: () => undefined, debug: (_: object, message: string) => void said.push(message) }
  {
    await using _ = startExpiry({ ...after(DAY_MS + 1), leases: { ...parts.leases, isHeld } }, log)
    await expect.poll(() => said).toHaveLength(1)
  }

  expect(await refs()).toEqual(['a'])
})
