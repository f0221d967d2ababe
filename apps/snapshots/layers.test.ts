import { connect } from '@gantry/rpc/client'
import { expect, test } from 'vitest'
import type { Processors } from './diff/processors.ts'
import { DEFAULT_LIMITS } from './extract/limits.ts'
import type { Pool } from './extract/pool.ts'
import { createLayers } from './layers.ts'

test('trees of one driver share a sync that begins after them, those of another driver do not', async () => {
  const synced: string[] = []
  const syncs = {
    run: async ({ root }: { root: string }) => {
      await new Promise(setImmediate)
      synced.push(root)
    },
  } as unknown as Pool
  await using content = connect('/nowhere.sock')
  const processors = {} as Processors // not asked
  const layers = createLayers({ content, pool: syncs, syncs, processors, limits: DEFAULT_LIMITS, mountRoot: '/' })

  const early = ['/one/1/fs', '/one/2/fs', '/other/3/fs'].map(layers.sync)
  await new Promise(process.nextTick) // those have begun by now
  await Promise.all([...early, layers.sync('/one/4/fs')])

  expect(synced.sort()).toEqual(['/one', '/one', '/other'])
})
