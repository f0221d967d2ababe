import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { mountsUnder } from '@gantry/linux/mount'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Mount } from '../drivers/driver.ts'
import { clearTargets, mergeLayers, mountTogether, openTarget } from './target.ts'

describe.skipIf(process.getuid?.() !== 0)('temporary mounts (skipped without root)', () => {
  let base: string
  let mountRoot: string
  beforeEach(() => {
    base = mkdtempSync(join(tmpdir(), 'gantry-target-'))
    mountRoot = join(base, 'mounts')
    clearTargets(mountRoot)
    for (const name of ['near', 'far', 'upper', 'work']) mkdirSync(join(base, name))
    writeFileSync(join(base, 'near', 'a'), '')
    writeFileSync(join(base, 'far', 'b'), '')
  })
  afterEach(() => {
    expect(mountsUnder(base)).toEqual([])
    expect(readdirSync(mountRoot)).toEqual([])
    rmSync(base, { recursive: true })
  })
  const bind = (name: string): Mount => ({ type: 'bind', source: join(base, name), options: ['ro', 'rbind'] })
  const tmpfs: Mount = { type: 'tmpfs', source: 'none', options: [] }

  test('what a crash has left is taken away at the next start, and nothing of what was mounted', () => {
    const { root } = mountTogether({ lower: [bind('near')], upper: [tmpfs] }, mountRoot)
    openTarget([tmpfs], { mountRoot, owns: () => false })
    expect(readdirSync(join(root, 'lower'))).toEqual(['a'])

    clearTargets(mountRoot)

    expect(readdirSync(join(base, 'near'))).toEqual(['a'])
  })

  test("a start leaves what is a stranger's, and takes away only empty folders", () => {
    mkdirSync(join(base, 'near', 'empty'))
    symlinkSync(join(base, 'near'), join(mountRoot, 'link'))
    writeFileSync(join(mountRoot, 'file'), '')
    mkdirSync(join(mountRoot, 'full'))
    writeFileSync(join(mountRoot, 'full', 'file'), '')
    mkdirSync(join(mountRoot, 'left', 'lower'), { recursive: true })

    clearTargets(mountRoot)

    expect(readdirSync(join(base, 'near'))).toEqual(['a', 'empty'])
    for (const name of ['link', 'file', 'full']) rmSync(join(mountRoot, name), { recursive: true })
  })

  test('a folder of mounts that is reached through a link is cleared as well', () => {
    symlinkSync(base, join(base, 'link'))
    const root = join(base, 'link', 'mounts')
    {
      using below = mergeLayers([join(base, 'near'), join(base, 'far')], root)
      expect(readdirSync(below.root).sort()).toEqual(['a', 'b'])
    }
    mkdirSync(join(base, 'near', 'empty'))
    mountTogether({ lower: [bind('near')] }, root)

    clearTargets(root)

    expect(readdirSync(join(base, 'near'))).toEqual(['a', 'empty'])
  })

  test('when one of several cannot be mounted none is left', () => {
    expect(() => mountTogether({ lower: [tmpfs], upper: [bind('near'), bind('nowhere')] }, mountRoot)).toThrow(
      expect.objectContaining({ name: 'Fault', code: 'failed-precondition' }),
    )
  })

  test('layers are seen as one tree, which only reads', () => {
    using below = mergeLayers([join(base, 'near'), join(base, 'far')], mountRoot)

    expect(readdirSync(below.root).sort()).toEqual(['a', 'b'])
    expect(() => writeFileSync(join(below.root, 'c'), '')).toThrow('EROFS')
  })

  test('the upper folder of an overlay is written to as it is, with what is below beside it', () => {
    const [upper, lowers] = [join(base, 'upper'), `${join(base, 'near')}:${join(base, 'far')}`]
    const options = [`workdir=${join(base, 'work')}`, `upperdir=${upper}`, `lowerdir=${lowers}`]

    using target = openTarget([{ type: 'overlay', source: 'overlay', options }], { mountRoot, owns: () => false })

    expect(target).toMatchObject({ root: upper, overlay: true })
    expect(target.lowers.flatMap((lower) => readdirSync(lower)).sort()).toEqual(['a', 'b'])
  })

  test('the upper folder of an overlay that names nothing below takes marks all the same', () => {
    const upper = join(base, 'upper')
    const options = ['rw', `upperdir=${upper}`]

    using target = openTarget([{ type: 'overlay', source: 'overlay', options }], { mountRoot, owns: () => false })

    expect(target).toMatchObject({ root: upper, overlay: true, lowers: [] })
  })

  test('a mount inside another stays there, wherever its name leads', () => {
    mkdirSync(join(base, 'far', 'inside'))
    const inner = { ...tmpfs, target: '../../inside' }

    using target = openTarget([bind('far'), inner], { mountRoot, owns: () => false })

    expect(mountsUnder(target.root)).toContain(join(target.root, 'inside'))
  })
})
