import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { mountsUnder } from '@gantry/linux/mount'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Mount } from '../drivers/driver.ts'
import { createPool, type Pool } from '../extract/pool.ts'
import { FUSE, mountHanging } from '../testing/hanging.ts'
import { clearTargets, mergeLayers, mountTogether, openTarget } from './target.ts'

const { signal } = new AbortController()

describe.skipIf(process.getuid?.() !== 0)('temporary mounts (skipped without root)', () => {
  let base: string
  let mountRoot: string
  let mounters: Pool
  beforeAll(() => {
    mounters = createPool(2)
  })
  afterAll(() => mounters[Symbol.asyncDispose]())
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
  const refused = expect.objectContaining({ name: 'Fault', code: 'failed-precondition' })
  const tmpfs: Mount = { type: 'tmpfs', source: 'none', options: [] }

  test('what a crash has left is taken away at the next start, and nothing of what was mounted', async () => {
    const { root } = await mountTogether({ lower: [bind('near')], upper: [tmpfs] }, { mountRoot, mounters }, signal)
    await openTarget([tmpfs], { mountRoot, mounters, owns: () => false }, signal)
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

  test('a folder of mounts that is reached through a link is cleared as well', async () => {
    symlinkSync(base, join(base, 'link'))
    const root = join(base, 'link', 'mounts')
    {
      await using below = await mergeLayers(
        [join(base, 'near'), join(base, 'far')],
        { mountRoot: root, mounters },
        signal,
      )
      expect(readdirSync(below.root).sort()).toEqual(['a', 'b'])
    }
    mkdirSync(join(base, 'near', 'empty'))
    await mountTogether({ lower: [bind('near')] }, { mountRoot: root, mounters }, signal)

    clearTargets(root)

    expect(readdirSync(join(base, 'near'))).toEqual(['a', 'empty'])
  })

  test('when one of several cannot be mounted none is left', async () => {
    const sets = { lower: [tmpfs], upper: [bind('near'), bind('nowhere')] }

    await expect(mountTogether(sets, { mountRoot, mounters }, signal)).rejects.toThrow(refused)
  })

  test.skipIf(!existsSync(FUSE))(
    'nobody waits for a mount that hangs but those who asked for it (skipped where the kernel lets nobody serve files)',
    async () => {
      let opening: Promise<unknown>
      {
        using _ = mountHanging(join(base, 'work'))
        opening = openTarget([bind('work/absent')], { mountRoot, mounters, owns: () => false }, signal)
        opening.catch(() => {}) // heard below

        await using other = await openTarget([tmpfs], { mountRoot, mounters, owns: () => false }, signal)

        expect(await Promise.race([opening, other])).toBe(other)
      }
      await expect(opening).rejects.toThrow(refused)
    },
  )

  test('layers are seen as one tree, which only reads', async () => {
    await using below = await mergeLayers([join(base, 'near'), join(base, 'far')], { mountRoot, mounters }, signal)

    expect(readdirSync(below.root).sort()).toEqual(['a', 'b'])
    expect(() => writeFileSync(join(below.root, 'c'), '')).toThrow('EROFS')
  })

  test('the upper folder of an overlay is written to as it is, with what is below beside it', async () => {
    const [upper, lowers] = [join(base, 'upper'), `${join(base, 'near')}:${join(base, 'far')}`]
    const options = [`workdir=${join(base, 'work')}`, `upperdir=${upper}`, `lowerdir=${lowers}`]

    await using target = await openTarget(
      [{ type: 'overlay', source: 'overlay', options }],
      { mountRoot, mounters, owns: () => false },
      signal,
    )

    expect(target).toMatchObject({ root: upper, overlay: true })
    expect(target.lowers.flatMap((lower) => readdirSync(lower)).sort()).toEqual(['a', 'b'])
  })

  test('the upper folder of an overlay that names nothing below takes marks all the same', async () => {
    const upper = join(base, 'upper')
    const options = ['rw', `upperdir=${upper}`]

    await using target = await openTarget(
      [{ type: 'overlay', source: 'overlay', options }],
      { mountRoot, mounters, owns: () => false },
      signal,
    )

    expect(target).toMatchObject({ root: upper, overlay: true, lowers: [] })
  })

  test('a mount inside another stays there, wherever its name leads', async () => {
    mkdirSync(join(base, 'far', 'inside'))
    const inner = { ...tmpfs, target: '../../inside' }

    await using target = await openTarget([bind('far'), inner], { mountRoot, mounters, owns: () => false }, signal)

    expect(mountsUnder(target.root)).toContain(join(target.root, 'inside'))
  })
})
