import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  commonFolder,
  mount,
  mountsUnder,
  parseMountPoints,
  parseOptions,
  unmount,
  unmountAll,
  unmountWaiting,
} from './mount.ts'

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

  test.each([{ type: 'tmp\0fs' }, { source: 'x\0' }, { target: '/x\0' }, { options: ['ro\0'] }])(
    '%j is refused: the kernel would read less',
    (part) => {
      const what = { type: 'tmpfs', source: 'tmpfs', target: '/nosuch', options: [], ...part }

      expect(() => mount(what)).toThrow('NUL')
    },
  )

  test.each([
    [['/r/1/fs', '/r/2/fs'], '/r'],
    [['/r/1/fs'], '/r/1'],
    [['/a/b', '/c/d'], '/'],
    [['a/b', '/c'], '/'],
    [['', 'x'], '/'],
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

  test('what is mounted is found through a link, too', () => {
    symlinkSync(root, join(root, 'link'))
    mount({ type: 'bind', source: join(root, 'a'), target: join(root, 'b'), options: [] })

    expect(mountsUnder(join(root, 'link', 'b'))).toEqual([join(root, 'b')])
    expect(mountsUnder(join(root, 'none', 'b'))).toEqual([])
  })

  test('a descriptor may stand for the target, read-only binds included', () => {
    const fd = openSync(join(root, 'b'), constants.O_RDONLY | constants.O_DIRECTORY)
    try {
      mount({
        type: 'bind',
        source: join(root, 'a'),
        target: `/proc/self/fd/${fd}`,
        options: ['rbind', 'ro', 'rslave'],
      })
    } finally {
      closeSync(fd)
    }

    expect(() => writeFileSync(join(root, 'b', 'x'), '')).toThrow('EROFS')
  })

  test('flags of a bind are those that are asked for, and mounts below come along', () => {
    mkdirSync(join(root, 'a', 'sub'))
    mount({ type: 'tmpfs', source: 'tmpfs', target: join(root, 'a', 'sub'), options: ['size=64k'] })
    const options = ['rbind', 'nosuid', 'nodev', 'noexec', 'noatime', 'rprivate']
    mount({ type: 'bind', source: join(root, 'a'), target: join(root, 'b'), options })

    const line = (point: string) =>
      readFileSync('/proc/self/mountinfo', 'utf8')
        .split('\n')
        .find((each) => each.split(' ')[4] === point)
        ?.split(' ')
    expect(line(join(root, 'b'))?.[5]).toBe('rw,nosuid,nodev,noexec,noatime')
    expect(line(join(root, 'b'))?.[6]).toBe('-') // shared with nobody
    expect(line(join(root, 'b', 'sub'))?.[5]).toBe('rw,relatime')
  })

  test('the ids of a bind are mapped', () => {
    chownSync(join(root, 'a'), 5, 7)
    const options = ['rbind', 'rw', 'uidmap=0:100000:65536', 'gidmap=0:200000:65536']
    mount({ type: 'bind', source: join(root, 'a'), target: join(root, 'b'), options })

    expect([statSync(join(root, 'b')).uid, statSync(join(root, 'b')).gid]).toEqual([100_005, 200_007])
  })

  test.each([3, 128])('the lower ones of %i layers are mapped, on whatever the target is', (count) => {
    const paths = Array.from({ length: count }, (_, index) => join(root, 'layers', String(index), 'fs'))
    for (const path of [...paths, join(root, 'upper'), join(root, 'work')]) mkdirSync(path, { recursive: true })
    writeFileSync(join(paths.at(-1) ?? '', 'base'), 'of the image')
    chownSync(join(paths.at(-1) ?? '', 'base'), 1000, 0)
    const maps = ['uidmap=0:100000:1000,1000:300000:64536', 'gidmap=0:100000:65536']
    const data = [`workdir=${root}/work`, `upperdir=${root}/upper`, `lowerdir=${paths.join(':')}`]
    const fd = openSync(join(root, 'b'), constants.O_RDONLY | constants.O_DIRECTORY)
    try {
      mount({ type: 'overlay', source: 'overlay', target: `/proc/self/fd/${fd}`, options: [...maps, ...data] })
    } finally {
      closeSync(fd)
    }

    expect([statSync(join(root, 'b', 'base')).uid, statSync(join(root, 'b', 'base')).gid]).toEqual([300_000, 100_000])
    expect(readFileSync(join(root, 'b', 'base'), 'utf8')).toBe('of the image')
    chmodSync(join(root, 'b', 'base'), 0o600) // copies it up
    expect(statSync(join(root, 'upper', 'base')).uid).toBe(300_000)
    expect(mountsUnder(root)).toEqual([join(root, 'b')])
    unmount(join(root, 'b'))
    expect(mountsUnder(root)).toEqual([])
  })

  test('a mapping that is none, and one that cannot be, leave nothing mounted', () => {
    const bind = { type: 'bind', source: join(root, 'a'), target: join(root, 'b') }
    const overlay = { type: 'overlay', source: 'overlay', target: join(root, 'b') }
    const maps = (uids: string) => [`uidmap=${uids}`, 'gidmap=0:1:1']

    for (const bad of ['', '0:1', '0:1:0', '0:-1:1', '4294967295:0:1', '0:4294967294:2', '0:1:1:1', '0:1:1,'])
      expect(() => mount({ ...bind, options: maps(bad) })).toThrow('inside:outside:length')
    expect(() => mount({ ...bind, options: maps('0:1:5,3:100:5') })).toThrow('EINVAL')
    expect(() => mount({ ...overlay, options: [...maps('0:1:1'), `lowerdir=${root}/a:${root}/absent`] })).toThrow(
      'ENOENT',
    )
    expect(() => mount({ ...overlay, type: 'tmpfs', options: maps('0:1:1') })).toThrow('of type "tmpfs"')
    expect(mountsUnder(root)).toEqual([])
  })

  test.each([unmountAll, unmountWaiting])(
    'stacked mounts go together, and taking away nothing is well',
    async (takeOff) => {
      const tmpfs = { type: 'tmpfs', source: 'tmpfs', target: join(root, 'b'), options: ['size=64k'] }
      mount(tmpfs)
      mount(tmpfs)

      await takeOff(join(root, 'b'))
      await takeOff(join(root, 'absent'))

      expect(mountsUnder(root)).toEqual([])
    },
  )

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

  test('a failure says which path and code', () => {
    const bind = { type: 'bind', source: join(root, 'absent'), target: join(root, 'b'), options: [] }

    expect(() => mount(bind)).toThrow(expect.objectContaining({ code: 'ENOENT', path: bind.source }))
  })
})
