import { spawnSync } from 'node:child_process'
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, unlinkSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { jsonCodec } from './codec.ts'
import { openStore } from './store.ts'

const base = mkdtempSync(join(tmpdir(), 'gantry-disk-'))
const disk = join(base, 'disk')
const isRoot = process.getuid?.() === 0

describe.skipIf(!isRoot)(`a disk that refuses${isRoot ? '' : ' (skipped: mounting needs root)'}`, () => {
  beforeAll(() => {
    mkdirSync(disk)
    spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=48m', 'tmpfs', disk])
  })
  afterAll(() => {
    spawnSync('umount', ['-l', disk])
    rmSync(base, { recursive: true })
  })

  test('when the disk is full, writes are refused, nothing of them stays, and they work again once there is room', async () => {
    await using store = openStore(join(disk, 'records'))
    const things = store.table('things', jsonCodec<string>())
    await store.write(() => things.put(['first'], 'x'))
    fill()

    const refused = [1, 2, 3].map((n) => store.write(() => things.put(['big', String(n)], 'x'.repeat(12_000_000))))
    const outcomes = await Promise.allSettled(refused)
    const seen = await store.write(() => Array.from(things.list(), ({ key }) => key))
    unlinkSync(join(disk, 'filler'))
    await store.write(() => things.put(['after'], 'x'.repeat(50_000)))

    for (const outcome of outcomes)
      expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'resource-exhausted' } })
    expect(seen).toEqual([['first']])
    expect(Array.from(things.list(), ({ key }) => key)).toEqual([['after'], ['first']])
  })

  test('when the disk is full, what is there can go', async () => {
    await using store = openStore(join(disk, 'removed'))
    const things = store.table('things', jsonCodec<string>())
    const names = Array.from({ length: 1000 }, (_, n) => String(n))
    await store.write(() => names.forEach((name) => void things.put(['things', name], 'x'.repeat(1000))))
    fill()

    for (const name of names.slice(0, 20)) await store.write(() => things.remove(['things', name]))
    await store.write(() => names.forEach((name) => void things.remove(['things', name])))

    expect([...things.list()]).toEqual([])
    unlinkSync(join(disk, 'filler'))
  })

  test('a read-only folder is named when it is opened', () => {
    spawnSync('mount', ['-o', 'remount,ro', disk])

    expect(() => openStore(join(disk, 'records'))).toThrow(
      expect.objectContaining({ code: 'failed-precondition', message: expect.stringContaining(join(disk, 'records')) }),
    )
    expect(() => openStore(join(disk, 'new'))).toThrow(expect.objectContaining({ code: 'failed-precondition' }))
    spawnSync('mount', ['-o', 'remount,rw', disk])
  })
})

test('a file where the folder should be is named', () => {
  const file = join(tmpdir(), `gantry-disk-file-${process.pid}`)
  writeFileSync(file, '')

  expect(() => openStore(file)).toThrow(expect.objectContaining({ code: 'failed-precondition' }))
  unlinkSync(file)
})

/** Takes all that is left of the disk. */
function fill(): void {
  const file = openSync(join(disk, 'filler'), 'w')
  const block = Buffer.alloc(4096)
  try {
    for (;;) writeSync(file, block)
  } catch {
  } finally {
    closeSync(file)
  }
}
