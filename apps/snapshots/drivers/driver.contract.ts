import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { mount, unmount } from '@gantry/linux/mount'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { createPool, type Pool } from '../extract/pool.ts'
import type { Driver, Stack } from './driver.ts'

/** On a busy machine. */
const SOON = { timeout: 30_000 }

const forever = new AbortController().signal
const active = (id: number, ...parents: number[]): Stack => ({ kind: 'active', id, parents, labels: {} })
const view = (id: number, ...parents: number[]): Stack => ({ kind: 'view', id, parents, labels: {} })

/** A driver, and what a test may look at from behind. */
export interface Subject extends AsyncDisposable {
  readonly driver: Driver
  /** Numbers, as text, of the snapshots that are really there. */
  kept(): Promise<string[]>
  /** The driver after a crash and a start. */
  again(): Driver
}

/** The numbers of the snapshots that a driver keeps in folders. */
export async function keptIn(root: string): Promise<string[]> {
  return readdirSync(root).sort()
}

/** What every driver promises, whatever it keeps snapshots in. */
export function driverContract(
  name: string,
  open: (parts: { root: string; pool: Pool }) => Subject | Promise<Subject>,
): void {
  describe.skipIf(process.getuid?.() !== 0)(`${name} (skipped without root: it mounts)`, { timeout: 60_000 }, () => {
    let base: string
    let point: string
    let pool: Pool
    let subject: Subject
    let driver: Driver

    beforeEach(async () => {
      base = mkdtempSync(join(tmpdir(), 'gantry-driver-'))
      point = mkdtempSync(join(base, 'point-'))
      pool = createPool(1)
      subject = await open({ root: join(base, 'root'), pool })
      driver = subject.driver
    })
    afterEach(async () => {
      await subject[Symbol.asyncDispose]()
      await pool[Symbol.asyncDispose]()
      rmSync(base, { recursive: true })
    })

    const create = (stack: Stack) => driver.create(stack, { namespace: 'test', key: `key ${stack.id}` }, forever)
    const commit = (id: number, parent?: number) =>
      driver.commit(id, { namespace: 'test', name: `name ${id}`, parent, labels: {} }, forever)

    /** Runs `work` while the snapshot is mounted on `point`. */
    async function mounted(stack: Stack, work: () => void): Promise<void> {
      const mounts = await driver.mounts(stack, forever)
      for (const each of mounts) mount({ ...each, target: point })
      try {
        work()
      } finally {
        for (const _ of mounts) unmount(point)
      }
    }

    /** A committed snapshot with one file. */
    async function layer(id: number, file: string, ...parents: number[]): Promise<void> {
      await create(active(id, ...parents))
      await mounted(active(id, ...parents), () => writeFileSync(join(point, file), `of ${id}`))
      await commit(id)
    }

    test('what is written to a snapshot is seen in those above it, and changes there stay there', async () => {
      await layer(1, 'a')
      await layer(2, 'a', 1)
      await create(active(3, 2, 1))
      await mounted(active(3, 2, 1), () => writeFileSync(join(point, 'b'), ''))
      await create(view(4, 1))

      await mounted(active(3, 2, 1), () => expect(readdirSync(point)).toEqual(['a', 'b']))
      await mounted(view(4, 1), () => expect(readdirSync(point)).toEqual(['a']))
    })

    test('making a snapshot answers the mounts that are answered later', async () => {
      await layer(1, 'a')

      expect(await create(active(2, 1))).toEqual({ made: await driver.mounts(active(2, 1), forever) })
      expect(await create(view(3, 1))).toEqual({ made: await driver.mounts(view(3, 1), forever) })
    })

    test.each([[[]], [[1]], [[2, 1]]])('a view on %j cannot be written to', async (parents) => {
      await layer(1, 'a')
      await layer(2, 'b', 1)
      await create(view(9, ...parents))

      await mounted(view(9, ...parents), () => expect(() => writeFileSync(join(point, 'x'), '')).toThrow('EROFS'))
    })

    test('the root of a snapshot is open to everybody and belongs to whom the parent does', async () => {
      await layer(1, 'a')
      await create(active(2, 1))

      await mounted(active(2, 1), () => {
        const { mode, uid, gid } = statSync(point)
        expect([mode & 0o7777, uid, gid]).toEqual([0o755, 0, 0])
      })
    })

    test('usage tells of bytes and inodes', async () => {
      await create(active(1))
      await mounted(active(1), () => writeFileSync(join(point, 'a'), Buffer.alloc(100_000)))
      await create(active(2))

      const [full, empty] = [await driver.usage(1, forever), await driver.usage(2, forever)]

      expect(full.inodes).toBe(2n)
      expect(full.size - empty.size).toBeGreaterThanOrEqual(100_000n)
      expect(empty.inodes).toBe(1n)
    })

    test('a discarded snapshot leaves nothing, and discarding twice is well', async () => {
      await layer(1, 'a')
      await create(active(2, 1))

      await driver.discard(2)
      await driver.discard(2)
      await driver.discard(1)
      await driver.cleanup(forever)

      expect(await subject.kept()).toEqual([])
    })

    test('after a crash only what records name is left', async () => {
      await create(active(1))
      await create(active(7))
      const again = subject.again()

      const highest = await again.recover(new Set([1]))

      expect(highest).toBe(7)
      await vi.waitFor(async () => expect(await subject.kept()).toEqual(['1']), SOON)
    })

    test('a snapshot without a parent is put upon one, or the driver says that it cannot', async () => {
      await layer(1, 'a')
      await create(active(2))
      await mounted(active(2), () => writeFileSync(join(point, 'b'), ''))

      if (!driver.capabilities.includes('rebase')) {
        await expect(commit(2, 1)).rejects.toThrow('onto a parent')
        return
      }
      await commit(2, 1)
      await create(active(3, 2, 1))
      await mounted(active(3, 2, 1), () => expect(readdirSync(point)).toEqual(['a', 'b']))
    })

    test('no other folder is taken for one of its own', async () => {
      await create(active(1))
      mkdirSync(join(base, '1', 'fs'), { recursive: true })

      for (const other of [base, '/', `${base}/root/1/work`, `${base}/root/../1/fs`, `${base}/root/x/fs`])
        expect(driver.owns(other)).toBe(false)
    })

    test('128 layers mount', async () => {
      const parents: number[] = []
      for (let id = 1; id <= 128; id++) {
        await create(active(id, ...parents))
        await commit(id)
        parents.unshift(id)
      }
      await create(active(200, ...parents))

      await mounted(active(200, ...parents), () => writeFileSync(join(point, 'top'), ''))
    })
  })
}
