import { chainIds } from '@gantry/model/chain-id'
import { MEDIA } from '@gantry/model/descriptor'
import { sha256Of } from '@gantry/model/digest'
import { parseNamespace } from '@gantry/model/namespace'
import { expect, test, vi } from 'vitest'
import type { Applied } from './extract/job.ts'
import { SETTLED } from './extract/loose.ts'
import type { Layers } from './layers.ts'
import type { Snapshots } from './snapshots.ts'
import { createUnpack } from './unpack.ts'

const scope = { namespace: parseNamespace('test'), snapshotter: 'overlayfs' }
const diffIds = ['base', 'middle', 'top'].map(sha256Of)
const chain = chainIds(diffIds)
const layers = diffIds.map((diffId) => ({ blob: { digest: diffId, mediaType: MEDIA.ociLayer }, diffId, hints: {} }))
const call = { lease: 'keep', signal: AbortSignal.timeout(60_000) }

/**
 * An unpack whose layers are laid out after `before`, and whose records are stored when `stored` says so. What is done, in
 * order, goes to `log`.
 */
function play(stored: Promise<void>, log: string[], before = async () => {}) {
  const usage = { size: 0n, inodes: 0n }
  const there = new Set<string>()
  const spent = { wait: 0, hash: 0, write: 0, measure: 0 }
  const snapshots: Partial<Snapshots> = {
    has: (_, name) => there.has(name),
    layers: () => [],
    stage: async () => ({ id: 1, snapshotter: scope.snapshotter, root: '/nowhere/1/fs' }),
    adopt(_, __, { name }) {
      log.push(`record ${name}`)
      there.add(name)
      return stored
    },
    async abandon() {
      log.push('abandon')
      throw new Error('the folder stays')
    },
  }
  const played: Partial<Layers> = {
    async layOut({ diffId }): Promise<Applied> {
      log.push(`lay out ${diffId}`)
      await before()
      return { digest: diffId, size: 1n, usage, loose: SETTLED, spent }
    },
    startSyncing: () => async () => {},
    settle: async () => false,
  }
  const leases = {
    async hold(_: unknown, key: string) {
      log.push(`hold ${key}`)
    },
    async letGo() {},
  }
  const parts = { snapshots: snapshots as Snapshots, layers: played as Layers, leases }
  const unpack = createUnpack(parts)
  return () => Array.fromAsync(unpack(scope, layers, call))
}

test('the records of a chain are written base first and stored together, each after the lease has its name', async () => {
  const { promise, resolve } = Promise.withResolvers<void>()
  const log: string[] = []

  const unpacked = play(promise, log)()

  const records = () => log.filter((line) => line.startsWith('record'))
  await vi.waitFor(() => expect(records()).toEqual(chain.map((name) => `record ${name}`)), 10_000)
  for (const name of chain) expect(log.indexOf(`hold ${name}`)).toBeLessThan(log.indexOf(`record ${name}`))
  resolve()
  expect((await unpacked).slice(3).map(({ phase }) => phase)).toEqual(['extracted', 'extracted', 'extracted'])
}, 20_000)

test('a chain whose records cannot be stored is not unpacked, and each of its folders goes if it can', async () => {
  const log: string[] = []
  const unpacked = play(Promise.reject(new Error('the disk is full')), log)()

  await expect(unpacked).rejects.toThrow('the disk is full')
  expect(log.filter((line) => line === 'abandon')).toHaveLength(layers.length)
})

test('when a layer fails, one of those who have waited for it tries again, and not all at once', async () => {
  const tries: PromiseWithResolvers<void>[] = []
  const unpack = play(Promise.resolve(), [], async () => {
    const attempt = Promise.withResolvers<void>()
    tries.push(attempt)
    await attempt.promise
  })
  const onceEach = async (settle: (attempt: PromiseWithResolvers<void>) => void) => {
    await vi.waitFor(() => expect(tries).toHaveLength(layers.length), 10_000)
    await new Promise(setImmediate)
    expect(tries).toHaveLength(layers.length)
    tries.splice(0).forEach(settle)
  }

  const all = Promise.allSettled([unpack(), unpack(), unpack()])
  await onceEach(({ reject }) => reject(new Error('not now')))
  await onceEach(({ resolve }) => resolve())

  expect((await all).map(({ status }) => status)).toEqual(['rejected', 'fulfilled', 'fulfilled'])
  expect(tries).toEqual([])
}, 60_000)
