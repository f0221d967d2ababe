import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { mountsUnder, unmountAll } from '@gantry/linux/mount'
import { expect, test } from 'vitest'
import { bundleOf, bundlesIn, makeBundle, removeBundle } from './bundle.ts'

const RUNTIME = { binary: '', root: '', systemdCgroup: false, noPivot: false, noNewKeyring: false }

test('a bundle that is mounted goes, also where a link leads to the state folder, as /var/run does', () => {
  const folder = mkdtempSync(join(tmpdir(), 'gantry-bundle-'))
  using _ = {
    [Symbol.dispose]() {
      for (const point of mountsUnder(folder)) unmountAll(point)
      rmSync(folder, { recursive: true })
    },
  }
  mkdirSync(join(folder, 'run'))
  symlinkSync('run', join(folder, 'link'))
  const bundles = bundlesIn(join(folder, 'link'))
  const bundle = bundleOf(bundles, 'ns', 'box')
  const runtime = { ...RUNTIME, ioUid: 0, ioGid: 0, shim: null }
  makeBundle(bundle, { config: '{}', runtime }, [{ type: 'tmpfs', source: 'tmpfs', target: '', options: [] }])

  removeBundle(bundles, 'ns', 'box')

  expect(existsSync(bundle.dir)).toBe(false)
  expect(mountsUnder(folder)).toEqual([])
})
