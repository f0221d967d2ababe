import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { mount, unmount } from '@gantry/linux/mount'
import { expect, test } from 'vitest'
import { createPool } from '../extract/pool.ts'
import { driverContract, keptIn } from './driver.contract.ts'
import { createOverlayfs, mountsOf, overlayOptions } from './overlayfs.ts'

const report = (error: unknown): void => {
  throw error
}

driverContract('overlayfs', (parts) => ({
  driver: createOverlayfs({ ...parts, report, mountOptions: [], slowChown: false }),
  kept: () => keptIn(parts.root),
  again: () => createOverlayfs({ ...parts, report, mountOptions: [], slowChown: false }),
  async [Symbol.asyncDispose]() {},
}))

test.skipIf(process.getuid?.() !== 0)(
  'what is laid out in a staged folder is a layer of its own (skipped without root: folders get owners)',
  async () => {
    const root = mkdtempSync(join(tmpdir(), 'gantry-staging-'))
    try {
      await using pool = createPool(1)
      const { staging, owns, recover, cleanup } = createOverlayfs({
        root,
        pool,
        report,
        mountOptions: [],
        slowChown: false,
      })
      const [one = '', two = ''] = [await staging?.stage(1), await staging?.stage(2)]
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

test.skipIf(process.getuid?.() !== 0)('a full disk is told as such (skipped without root: it mounts)', async () => {
  const root = mkdtempSync(join(tmpdir(), 'gantry-full-'))
  mount({ type: 'tmpfs', source: 'tmpfs', target: root, options: ['nr_inodes=6'] })
  try {
    await using pool = createPool(1)
    const driver = createOverlayfs({ root, pool, report, mountOptions: [], slowChown: false })
    await driver.staging?.stage(1)
    await driver.staging?.stage(2)
    const full = expect.objectContaining({ code: 'resource-exhausted' })

    await expect(driver.staging?.stage(3)).rejects.toThrow(full)
    const stack = { kind: 'active', id: 4, parents: [], labels: {} } as const
    await expect(driver.create(stack, { namespace: 'test', key: 'box' }, AbortSignal.timeout(60_000))).rejects.toThrow(
      full,
    )
  } finally {
    unmount(root)
    rmSync(root, { recursive: true })
  }
})

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
  expect(
    mountsOf({ kind, id: 9, parents, labels: {} }, { root: '/r', options: ['volatile', 'index=off'], canMap: true }),
  ).toEqual(mounts)
})

const mapped = {
  'containerd.io/snapshot/uidmapping': '0:100000:65536',
  'containerd.io/snapshot/gidmapping': '0:200000:65536',
}
const maps = ['uidmap=0:100000:65536', 'gidmap=0:200000:65536']

test.each([
  [[], [...maps, 'rw', 'rbind']],
  [[3], [...maps, 'workdir=/r/9/work', 'upperdir=/r/9/fs', 'lowerdir=/r/3/fs']],
])('labels for id mapping are options of the mount on %j, where the kernel can', (parents, options) => {
  const stack = { kind: 'active', id: 9, parents, labels: mapped } as const
  const look = { root: '/r', options: [] }

  expect(mountsOf(stack, { ...look, canMap: true })[0]?.options).toEqual(options)
  expect(mountsOf(stack, { ...look, canMap: false })[0]?.options).toEqual(options.slice(2))
  const half = { 'containerd.io/snapshot/uidmapping': '0:1:1' }
  expect(mountsOf({ ...stack, labels: half }, { ...look, canMap: true })[0]?.options).toEqual(options.slice(2))
  const bad = { ...mapped, 'containerd.io/snapshot/gidmapping': 'all' }
  expect(() => mountsOf({ ...stack, labels: bad }, { ...look, canMap: true })).toThrow('inside:outside:length')
})

test.skipIf(process.getuid?.() !== 0)(
  'a mapped snapshot is seen with the ids of its user namespace (skipped without root)',
  async () => {
    const base = mkdtempSync(join(tmpdir(), 'gantry-mapped-'))
    const [root, point] = [join(base, 'root'), join(base, 'point')]
    const forever = new AbortController().signal
    try {
      await using pool = createPool(1)
      const driver = createOverlayfs({ root, pool, report, mountOptions: [], slowChown: false })
      if (!driver.capabilities.includes('remap-ids')) return
      mkdirSync(point)
      const title = { namespace: 'test', key: 'key' }
      await driver.create({ kind: 'active', id: 1, parents: [], labels: {} }, title, forever)
      writeFileSync(join(root, '1', 'fs', 'of-the-image'), '')
      const stack = { kind: 'active', id: 2, parents: [1], labels: mapped } as const
      await driver.create(stack, title, forever)

      for (const each of await driver.mounts(stack, forever)) mount({ ...each, target: point })
      const owners = ['.', 'of-the-image'].map((name) => {
        const { uid, gid } = statSync(join(point, name))
        return [uid, gid]
      })
      unmount(point)

      expect(owners).toEqual([
        [100_000, 200_000],
        [100_000, 200_000],
      ])
    } finally {
      rmSync(base, { recursive: true })
    }
  },
)

test.each([
  [[], { hasIndex: true, inNamespace: false }, ['index=off']],
  [[], { hasIndex: false, inNamespace: false }, []],
  [['volatile'], { hasIndex: true, inNamespace: true }, ['volatile', 'userxattr', 'index=off']],
  [['userxattr', 'index'], { hasIndex: true, inNamespace: true }, ['userxattr', 'index']],
])('options %j, with a kernel as %j, become %j', (configured, kernel, options) => {
  expect(overlayOptions(configured, kernel)).toEqual(options)
})
