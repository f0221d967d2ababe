import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { createPool } from '../extract/pool.ts'
import { driverContract, keptIn } from './driver.contract.ts'
import { createOverlayfs, mountsOf, overlayOptions } from './overlayfs.ts'

const report = (error: unknown): void => {
  throw error
}

driverContract('overlayfs', (parts) => ({
  driver: createOverlayfs({ ...parts, report, mountOptions: [] }),
  kept: () => keptIn(parts.root),
  again: () => createOverlayfs({ ...parts, report, mountOptions: [] }),
  async [Symbol.asyncDispose]() {},
}))

test.skipIf(process.getuid?.() !== 0)(
  'what is laid out in a staged folder is a layer of its own (skipped without root: folders get owners)',
  async () => {
    const root = mkdtempSync(join(tmpdir(), 'gantry-staging-'))
    try {
      await using pool = createPool(1)
      const { staging, owns, recover, cleanup } = createOverlayfs({ root, pool, report, mountOptions: [] })
      const [one, two] = [staging?.stage(1) ?? '', staging?.stage(2) ?? '']
      writeFileSync(join(one, 'a'), 'one')

      expect(staging?.layer(1)).toBe(one)
      expect([owns(one), owns(two), owns(root)]).toEqual([true, true, false])
      expect(await recover(new Set([1]))).toBe(2)
      await cleanup(new AbortController().signal)
      expect([existsSync(join(one, 'a')), existsSync(two)]).toEqual([true, false])
    } finally {
      rmSync(root, { recursive: true })
    }
  },
)

test.each([
  ['active', [], [{ type: 'bind', source: '/r/9/fs', options: ['rw', 'rbind'] }]],
  ['view', [], [{ type: 'bind', source: '/r/9/fs', options: ['ro', 'rbind'] }]],
  ['view', [3], [{ type: 'bind', source: '/r/3/fs', options: ['ro', 'rbind'] }]],
  [
    'active',
    [3],
    [
      {
        type: 'overlay',
        source: 'overlay',
        options: ['workdir=/r/9/work', 'upperdir=/r/9/fs', 'lowerdir=/r/3/fs', 'volatile', 'index=off'],
      },
    ],
  ],
  [
    'active',
    [3, 2, 1],
    [
      {
        type: 'overlay',
        source: 'overlay',
        options: ['workdir=/r/9/work', 'upperdir=/r/9/fs', 'lowerdir=/r/3/fs:/r/2/fs:/r/1/fs', 'volatile', 'index=off'],
      },
    ],
  ],
  [
    'view',
    [3, 2],
    [{ type: 'overlay', source: 'overlay', options: ['lowerdir=/r/3/fs:/r/2/fs', 'volatile', 'index=off'] }],
  ],
] as const)('a snapshot that is %s on %j is mounted as containerd does', (kind, parents, mounts) => {
  expect(mountsOf({ kind, id: 9, parents, labels: {} }, { root: '/r', options: ['volatile', 'index=off'] })).toEqual(
    mounts,
  )
})

test.each([
  [[], true, ['index=off']],
  [[], false, []],
  [['volatile'], true, ['volatile', 'index=off']],
  [['index'], true, ['index']],
])('options %j, when the kernel has an index: %s, become %j', (configured, hasIndex, options) => {
  expect(overlayOptions(configured, hasIndex)).toEqual(options)
})
