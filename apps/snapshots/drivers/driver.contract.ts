import { existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { mount, unmount } from '@gantry/linux/mount'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { createPool, type Pool } from '../extract/pool.ts'
import type { Driver, Stack } from './driver.ts'

const forever = new AbortController().signal
const active = (id: number, ...parents: number[]): Stack => ({ kind: 'active', id, parents })
const view = (id: number, ...parents: number[]): Stack => ({ kind: 'view', id, parents })

/** What every driver promises, whatever it keeps snapshots in. */
export function driverContract(name: string, make: (parts: { root: string; pool: Pool }) => Driver): void {
  describe.skipIf(process.getuid?.() !== 0)(`${name} (skipped without root: it mounts)`, () => {
    let base: string
    let point: string
    let pool: Pool
    let driver: Driver

    beforeEach(() => {
      base = mkdtempSync(join(tmpdir(), 'gantry-driver-'))
      point = mkdtempSync(join(base, 'point-'))
      pool = createPool(1)
      driver = make({ root: join(base, 'root'), pool })
    })
    afterEach(async () => {
      await pool[Symbol.asyncDispose]()
      rmSync(base, { recursive: true })
    })

    /** Runs `work` while the snapshot is mounted on `point`. */
    async function mounted(stack: Stack, work: () => void): Promise<void> {
      const mounts = driver.mounts(stack)
      for (const each of mounts) mount({ ...each, target: point })
      try {
        work()
      } finally {
        for (const _ of mounts) unmount(point)
      }
    }

    test('what is laid out in a staged folder is seen in snapshots above it; a start takes it away when nothing names it', async () => {
      const below = driver.stage(1)
      writeFileSync(join(below, 'a'), 'one')
      writeFileSync(join(driver.stage(2), 'b'), 'two')

      expect(driver.layer(1)).toBe(below)
      await driver.create(active(3, 2, 1))
      await mounted(active(3, 2, 1), () => expect(readdirSync(point).sort()).toEqual(['a', 'b']))
      expect(await driver.recover(new Set([1, 3]))).toBe(3)
      expect(existsSync(below)).toBe(true)
      await vi.waitFor(() => expect(readdirSync(driver.root).sort()).toEqual(['1', '3']))
    })

    test('what is written to a snapshot is seen in those above it, and changes there stay there', async () => {
      await driver.create(active(1))
      await mounted(active(1), () => writeFileSync(join(point, 'a'), 'one'))
      await driver.create(active(2, 1))
      await mounted(active(2, 1), () => writeFileSync(join(point, 'a'), 'two'))
      await driver.create(active(3, 2, 1))
      await mounted(active(3, 2, 1), () => writeFileSync(join(point, 'b'), ''))

      await mounted(active(3, 2, 1), () => expect(readdirSync(point)).toEqual(['a', 'b']))
      await mounted(active(1), () => expect(readdirSync(point)).toEqual(['a']))
    })

    test.each([[[]], [[1]], [[2, 1]]])('a view on %j cannot be written to', async (parents) => {
      await driver.create(active(1))
      await driver.create(active(2, 1))
      await driver.create(view(9, ...parents))

      await mounted(view(9, ...parents), () => expect(() => writeFileSync(join(point, 'x'), '')).toThrow('EROFS'))
    })

    test('the root of a snapshot is open to everybody and belongs to whom the parent does', async () => {
      await driver.create(active(1))
      await driver.create(active(2, 1))

      await mounted(active(2, 1), () => {
        const { mode, uid, gid } = statSync(point)
        expect([mode & 0o7777, uid, gid]).toEqual([0o755, 0, 0])
      })
    })

    test('usage is what the snapshot itself adds', async () => {
      await driver.create(active(1))
      await mounted(active(1), () => writeFileSync(join(point, 'a'), Buffer.alloc(100_000)))
      await driver.create(active(2, 1))

      const [below, above] = [await driver.usage(1, forever), await driver.usage(2, forever)]

      expect(below.inodes).toBe(2n)
      expect(below.size - above.size).toBeGreaterThanOrEqual(100_000n)
      expect(above.inodes).toBe(1n)
    })

    test('a discarded snapshot leaves nothing, and discarding twice is well', async () => {
      await driver.create(active(1))
      await mounted(active(1), () => writeFileSync(join(point, 'a'), ''))

      await driver.discard(1)
      await driver.discard(1)

      await vi.waitFor(() => expect(readdirSync(driver.root)).toEqual([]))
    })

    test('after a crash only what records name is left', async () => {
      await driver.create(active(1))
      await driver.create(active(7))
      const again = make({ root: driver.root, pool })

      const highest = await again.recover(new Set([1]))

      expect(highest).toBe(7)
      await vi.waitFor(() => expect(readdirSync(driver.root)).toEqual(['1']))
    })

    test('it knows its own folders', async () => {
      await driver.create(active(1))
      const [only] = driver.mounts(active(1))

      expect(driver.owns(only?.source ?? '')).toBe(true)
      expect(existsSync(only?.source ?? '')).toBe(true)
      for (const other of [driver.root, '/', `${driver.root}/1/work`, `${driver.root}/../1/fs`, `${driver.root}/x/fs`])
        expect(driver.owns(other)).toBe(false)
    })

    test('128 layers mount', async () => {
      const parents = Array.from({ length: 128 }, (_, index) => 128 - index)
      for (const id of parents) await driver.create(active(id))
      await driver.create(active(200, ...parents))

      await mounted(active(200, ...parents), () => writeFileSync(join(point, 'top'), ''))
    })
  })
}
