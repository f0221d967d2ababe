import { expect, test } from 'vitest'
import { driverContract } from './driver.contract.ts'
import { createOverlayfs, mountsOf, overlayOptions } from './overlayfs.ts'

driverContract('overlayfs', ({ root, pool }) =>
  createOverlayfs({
    root,
    pool,
    mountOptions: [],
    report: (error) => {
      throw error
    },
  }),
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
  expect(mountsOf({ kind, id: 9, parents }, { root: '/r', options: ['volatile', 'index=off'] })).toEqual(mounts)
})

test.each([
  [[], true, ['index=off']],
  [[], false, []],
  [['volatile'], true, ['volatile', 'index=off']],
  [['index'], true, ['index']],
])('options %j, when the kernel has an index: %s, become %j', (configured, hasIndex, options) => {
  expect(overlayOptions(configured, hasIndex)).toEqual(options)
})
