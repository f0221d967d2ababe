import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { commonFolder, mount, mountsUnder, parseMountPoints, parseOptions, unmount, unmountAll } from './mount.ts'

describe('options', () => {
  test.each([
    [['rw', 'rbind'], 0x5000, []],
    [['ro', 'rbind'], 0x5001, []],
    [['ro', 'rw'], 0, []],
    [['rw', 'ro', 'nosuid'], 3, []],
    [
      ['workdir=/w', 'upperdir=/u', 'lowerdir=/a:/b', 'index=off'],
      0,
      ['workdir=/w', 'upperdir=/u', 'lowerdir=/a:/b', 'index=off'],
    ],
    [['defaults', '', 'size=1m'], 0, ['size=1m']],
  ])('%j are flags and data', (options, flags, data) => {
    expect(parseOptions(options)).toEqual({ flags, data })
  })

  test('mount points with spaces are read back as they are', () => {
    const table = '29 1 254:0 / / rw - ext4 /dev/vda rw\n30 29 0:5 / /a\\040b\\134c rw - tmpfs t rw\n'

    expect(parseMountPoints(table)).toEqual(['/', '/a b\\c'])
  })

  test.each([
    [['/r/1/fs', '/r/2/fs'], '/r'],
    [['/r/1/fs'], '/r/1'],
    [['/a/b', '/c/d'], '/'],
  ])('%j share %s', (paths, shared) => {
    expect(commonFolder(paths)).toBe(shared)
  })
})

describe.skipIf(process.getuid?.() !== 0)('mounting (skipped without root: mount(2) needs it)', () => {
  let root: string

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'gantry-mount-'))
    mkdirSync(join(root, 'a'))
    mkdirSync(join(root, 'b'))
  })
  afterEach(() => {
    for (const point of mountsUnder(root)) unmount(point, { detach: true })
    rmSync(root, { recursive: true })
  })

  test('a read-only bind cannot be written to', () => {
    mount({ type: 'bind', source: join(root, 'a'), target: join(root, 'b'), options: ['rbind', 'ro'] })

    expect(() => writeFileSync(join(root, 'b', 'x'), '')).toThrow('EROFS')
    expect(mountsUnder(root)).toEqual([join(root, 'b')])
  })

  test('stacked mounts go together, and taking away nothing is well', () => {
    const tmpfs = { type: 'tmpfs', source: 'tmpfs', target: join(root, 'b'), options: ['size=64k'] }
    mount(tmpfs)
    mount(tmpfs)

    unmountAll(join(root, 'b'))
    unmountAll(join(root, 'absent'))

    expect(mountsUnder(root)).toEqual([])
  })

  test('an overlay of 128 layers with long names mounts although its options exceed a page', () => {
    const lowers = Array.from({ length: 128 }, (_, index) => join(root, 'x'.repeat(60), String(index), 'fs'))
    for (const lower of lowers) mkdirSync(lower, { recursive: true })
    writeFileSync(join(root, 'x'.repeat(60), '127', 'fs', 'base'), '')

    mount({ type: 'overlay', source: 'overlay', target: join(root, 'b'), options: [`lowerdir=${lowers.join(':')}`] })

    expect(readdirSync(join(root, 'b'))).toEqual(['base'])
  })

  test('options that cannot be shortened are refused with the limit', () => {
    const options = [`upperdir=/${'u'.repeat(5000)}`]

    expect(() => mount({ type: 'overlay', source: 'overlay', target: join(root, 'b'), options })).toThrow('4095')
  })

  test('a failure says which call, path and code', () => {
    const bind = { type: 'bind', source: join(root, 'absent'), target: join(root, 'b'), options: [] }

    expect(() => mount(bind)).toThrow(expect.objectContaining({ code: 'ENOENT', syscall: 'mount', path: bind.target }))
  })
})
