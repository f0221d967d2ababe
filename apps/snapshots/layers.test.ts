import { connect } from '@gantry/rpc/client'
import { expect, test } from 'vitest'
import type { Processors } from './diff/processors.ts'
import { DEFAULT_LIMITS } from './extract/limits.ts'
import type { Pool } from './extract/pool.ts'
import { createLayers, type Layers } from './layers.ts'

const forever = new AbortController().signal

/** Layers whose syncs are done by `work`. */
async function withLayers(work: (root: string) => Promise<void>, use: (layers: Layers) => Promise<void>) {
  const syncs = { run: ({ root }: { root: string }) => work(root) } as unknown as Pool
  await using content = connect('/nowhere.sock')
  const processors = {} as Processors // not asked
  await use(
    createLayers({ content, pool: syncs, syncs, processors, limits: DEFAULT_LIMITS, mountRoot: '/', mounters: syncs }),
  )
}

test('trees of one driver share a sync that begins after them, those of another driver do not', async () => {
  const synced: string[] = []
  const work = async (root: string) => {
    await new Promise(setImmediate)
    synced.push(root)
  }

  await withLayers(work, async ({ startSyncing }) => {
    const early = ['/one/1/fs', '/one/2/fs', '/other/3/fs'].map((root) => startSyncing(root)(forever))
    await new Promise(process.nextTick) // those have begun by now
    await Promise.all([...early, startSyncing('/one/4/fs')(forever)])
  })

  expect(synced.sort()).toEqual(['/one', '/one', '/other'])
})

test('a sync that fails is one of all who had begun to write by then, since the kernel tells of it only once', async () => {
  const results = [async () => {}, async () => Promise.reject(new Error('EIO')), async () => {}]
  const work = async () => await results.shift()?.()

  await withLayers(work, async ({ startSyncing }) => {
    const [early, other] = ['/one/1/fs', '/one/2/fs'].map(startSyncing)
    await early?.(forever)
    const failed = await Promise.allSettled([startSyncing('/one/3/fs')(forever)])
    const late = startSyncing('/one/4/fs')

    expect(failed[0]?.status).toBe('rejected')
    await expect(other?.(forever)).rejects.toThrow('EIO')
    await late(forever)
  })
})

test('who gives up waits for no disk, and a sync that nobody waits for does not begin', async () => {
  const { promise, resolve } = Promise.withResolvers<void>()
  let begun = 0
  const work = async () => {
    begun++
    await promise
  }

  await withLayers(work, async ({ startSyncing }) => {
    const call = new AbortController()
    const running = startSyncing('/one/1/fs')(call.signal)
    await new Promise(process.nextTick)
    const waiting = startSyncing('/one/2/fs')(call.signal)
    call.abort()

    await expect(running).rejects.toThrow('aborted')
    await expect(waiting).rejects.toThrow('aborted')
    const late = startSyncing('/one/3/fs')
    resolve()
    await new Promise(setImmediate)
    expect(begun).toBe(1)
    await late(forever)
    expect(begun).toBe(2)
  })
})
