/** What runtimes have been broken with by layers. Each archive is made here; none may touch anything outside its root. */
import { existsSync, lstatSync, readdirSync, readFileSync, renameSync, rmSync, statSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { mkfifo } from '@gantry/linux/file'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { archive, entry, file, folder, hardLink, longName, type Part, symlink } from '../testing/archive.ts'
import { createSandbox, type Sandbox } from '../testing/sandbox.ts'
import { DEFAULT_LIMITS } from './limits.ts'
import { createPool, type Pool } from './pool.ts'

describe.skipIf(process.getuid?.() !== 0)('hostile layers (skipped without root: the jail needs it)', () => {
  let pool: Pool
  let box: Sandbox

  beforeAll(() => {
    pool = createPool(2)
  })
  afterAll(() => pool[Symbol.asyncDispose]())
  beforeEach(() => {
    box = createSandbox(pool)
  })
  afterEach(() => {
    const { base } = box
    expect(readFileSync(join(base, 'secret'), 'utf8')).toBe('outside')
    expect(statSync(join(base, 'secret'))).toMatchObject({ mode: 0o100600, uid: 0, nlink: 1 })
    expect(readdirSync(base).filter((name) => !['blob', 'root', 'secret'].includes(name))).toEqual([])
    box[Symbol.dispose]()
  })

  describe('that lead outside', () => {
    test('CVE-2021-32760: no mode outside changes through a hard link or symlink entry', async () => {
      await box.apply(
        symlink('link', join(box.base, 'secret')),
        { ...hardLink('hard', 'link'), mode: 0o4777, uid: 9 },
        { name: 'link2', flag: '2', link: '../secret', mode: 0o777 },
      )

      expect(lstatSync(join(box.root, 'hard')).isSymbolicLink()).toBe(true)
      expect(lstatSync(join(box.root, 'hard')).uid).toBe(0)
    })

    test('CVE-2025-47290: a folder swapped for a link by a later entry leads nowhere outside', async () => {
      await box.apply(
        folder('d'),
        file('d/x'),
        symlink('d', box.base),
        file('d/escaped', 'inside'),
        symlink('e', '../../../../../../..'),
        file('e/escaped', 'inside'),
      )

      expect(existsSync('/escaped')).toBe(false)
      expect(readFileSync(join(box.root, 'escaped'), 'utf8')).toBe('inside')
      expect(readFileSync(join(box.root, box.base, 'escaped'), 'utf8')).toBe('inside')
    })

    test('CVE-2025-47290: nor does one that somebody else swaps meanwhile', async () => {
      const parts = Array.from({ length: 4000 }, (_, index) => ({ ...file(`d/f${index}`, 'inside'), uid: 3 }))
      let isDone = false
      const laid = box.lay(archive(folder('d'), ...parts)).finally(() => {
        isDone = true
      })
      laid.catch(() => {})
      let swaps = 0
      for (; !isDone; swaps++) {
        await new Promise(setImmediate)
        if (!existsSync(join(box.root, 'd'))) continue
        renameSync(join(box.root, 'd'), join(box.root, 'away'))
        symlinkSync(box.base, join(box.root, 'd'))
        await new Promise(setImmediate)
        rmSync(join(box.root, 'd'), { recursive: true })
        renameSync(join(box.root, 'away'), join(box.root, 'd'))
      }

      const failure = await laid.catch((error: unknown) => error)

      expect(swaps).toBeGreaterThan(0)
      expect(failure).toSatisfy((end) => !(end instanceof Error) || end.name === 'Fault')
    })

    test.each(['../../../../secret', '/secret', 'a/../../../secret', './../secret', '/../secret'])(
      'the name %s stays inside',
      async (name) => {
        await box.apply(file(name, 'inside'))

        expect(readFileSync(join(box.root, 'secret'), 'utf8')).toBe('inside')
      },
    )

    test('whiteouts through links and dots take away nothing outside', async () => {
      await box.apply(symlink('up', '..'), symlink('abs', box.base))

      for (const name of ['up/.wh.secret', 'abs/.wh.secret', '../.wh.secret', '/../../.wh.secret', 'up/.wh..wh..opq'])
        await box.apply(file(name))
    })

    test.each([
      ['a hard link to outside', [hardLink('a', '../secret')], 'is not there'],
      ['a hard link through a link to outside', [symlink('l', '..'), hardLink('a', 'l/secret')], 'is not there'],
      ['a hard link to itself', [file('a'), hardLink('a', 'a')], 'is itself'],
      ['a hard link to a folder', [folder('a'), hardLink('b', 'a')], 'is a folder'],
      ['a hard link to the root', [hardLink('b', '/')], 'is a folder'],
    ] as const)('%s is refused, and the thread lives on', (_, parts, reason) =>
      expectRefusal(parts, { code: 'failed-precondition', reason }),
    )
  })

  test('CVE-2024-9676, CVE-2026-47262, CVE-2025-4437: passwd as a link, a FIFO or a device is neither followed nor opened', async () => {
    await box.apply(
      folder('etc'),
      { name: 'etc/passwd', flag: '6' },
      file('etc/passwd', 'a'),
      { name: 'etc/group', flag: '3', device: [1, 3] },
      file('etc/group', 'b'),
      symlink('etc/shadow', '/dev/zero'),
      file('etc/shadow', 'c'),
    )

    const contents = ['passwd', 'group', 'shadow'].map((name) => readFileSync(join(box.root, 'etc', name), 'utf8'))
    expect(contents).toEqual(['a', 'b', 'c'])
  })

  describe('that are malformed', () => {
    const bad = 'invalid-argument'
    test.each([
      ['an entry under a file', [file('a'), file('a/b')], 'something on the way is no folder'],
      ['an entry under a FIFO', [{ name: 'a', flag: '6' }, file('a/b')], 'something on the way is no folder'],
      ['a loop of links', [symlink('a', 'b'), symlink('b', 'a'), file('a/x')], 'no end'],
      ['a whiteout of the folder', [file('a/.wh..')], 'whiteout of no name'],
      ['a whiteout of the folder above', [file('a/.wh...')], 'whiteout of no name'],
      ['a whiteout of nothing', [file('a/.wh.')], 'whiteout of no name'],
      ['a NUL in a name', [{ name: 'x', pax: { path: 'a\0b' } }], 'NUL'],
      ['a NUL in a link', [{ name: 'x', flag: '2', pax: { linkpath: 'a\0b' } }], 'NUL'],
      ['a NUL in the name of an attribute', [{ name: 'x', pax: { 'SCHILY.xattr.user.a\0b': 'c' } }], 'bad key'],
      ['a link to nothing', [symlink('a', '')], 'links to no name'],
      ['a name too long for the kernel', [longName('x'.repeat(300)), file('x')], '255 bytes'],
      ['a negative size', [{ name: 'x', patch: [124, Buffer.alloc(12, 0xff)] }], 'a size of -1 is out of range'],
      ['a huge size', [{ name: 'x', patch: [124, Buffer.from([0x80, ...Array(11).fill(0xff)])] }], 'out of range'],
      ['a negative owner', [{ name: 'x', patch: [108, Buffer.alloc(8, 0xff)] }], 'a uid of -1 is out of range'],
      ['an owner that means "nobody changes it"', [{ name: 'x', pax: { uid: '4294967295' } }], '4294967295'],
      ['an owner beyond 32 bits', [{ name: 'x', pax: { gid: '4294967296' } }], '4294967296'],
      ['a size in words', [{ name: 'x', pax: { size: 'many' } }], 'is not a number'],
      ['a negative size in words', [{ name: 'x', pax: { size: '-1' } }], 'is not a number'],
      ['a time in words', [{ name: 'x', pax: { mtime: 'now' } }], 'is not a time'],
      ['a device that cannot be', [{ name: 'x', flag: '4', device: [0o7777777, 0o7777777] }], 'EINVAL'],
      ['a record that is longer than its header', [{ name: 'h', flag: 'x', content: '99 a=b\n' }, file('x')], 'length'],
    ] as [string, Part[], string][])('%s is refused, and the thread lives on', (_, parts, reason) =>
      expectRefusal(parts, { code: bad, reason }),
    )

    test('times out of range become 1970', async () => {
      await box.apply(
        { name: 'old', pax: { mtime: '-5000000000' } },
        { name: 'late', pax: { mtime: '99999999999999', atime: '99999999999999' } },
      )

      expect(statSync(join(box.root, 'old')).mtimeMs).toBe(0)
      expect(statSync(join(box.root, 'late')).mtimeMs).toBe(0)
    })

    test('an archive cut off is the fault of the archive', async () => {
      const bytes = archive(file('a', 'x'.repeat(5000)))

      await expect(box.lay(bytes.subarray(0, 3000))).rejects.toMatchObject({ code: bad })
      await expect(box.lay(gzipSync(bytes).subarray(0, 50))).rejects.toMatchObject({ code: bad })
    })

    test('a blob that is a link or a FIFO is not read', async () => {
      mkfifo(join(box.base, 'blob2'), 0o600)

      await expect(box.lay(Buffer.alloc(0), { blob: join(box.base, 'blob2') })).rejects.toMatchObject({
        code: 'failed-precondition',
      })
      rmSync(join(box.base, 'blob2'))
    })
  })

  describe('that are too much', () => {
    const much = 'resource-exhausted'
    test.each([
      ['a path that is too long', [longName('abc/'.repeat(2000)), file('x')], '8000 bytes'],
      ['a path that is too deep', [longName('a/'.repeat(500)), file('x')], '500 deep'],
      ['a link target that is too deep', [longName('a/'.repeat(500), 'K'), hardLink('x', '')], '500 deep'],
      ['a name of megabytes', [longName('a'.repeat(2 ** 21)), file('x')], '1048576 is the most'],
      [
        'an attribute of 70 KB',
        [{ name: 'x', pax: { 'SCHILY.xattr.user.a': 'y'.repeat(70_000) } }],
        '65536 is the most',
      ],
      [
        'a hole of a petabyte',
        [{ name: 'x', pax: { 'GNU.sparse.map': '0,0', 'GNU.sparse.size': '900000000000000' } }],
        'a file with holes is',
      ],
      ['attributes of megabytes', [{ name: 'x', pax: { 'SCHILY.xattr.user.a': 'y'.repeat(2 ** 21) } }], 'is the most'],
    ] as [string, Part[], string][])('%s is refused, and the thread lives on', (_, parts, reason) =>
      expectRefusal(parts, { code: much, reason }),
    )

    test('millions of entries stop at the limit', async () => {
      const limits = { ...DEFAULT_LIMITS, entries: 10 }
      const parts = Array.from({ length: 20 }, (_, index) => file(`f${index}`))

      await expect(box.lay(archive(...parts), { limits })).rejects.toThrow('more than 10 entries')
    })

    test.each([
      ['folders', (index: number) => folder(`f${index}`)],
      ['folders that no entry describes', (index: number) => file(`f${index}/x`)],
      ['whiteouts', (index: number) => file(`.wh.f${index}`)],
    ])('millions of %s stop at the limit', async (_, part) => {
      const how = { limits: { ...DEFAULT_LIMITS, heldBytes: 29 }, overlay: true }
      const parts = Array.from({ length: 10 }, (_, index) => part(index))

      await expect(box.lay(archive(...parts), how)).rejects.toThrow('take over 29 bytes')
    })

    test.each([
      ['gzip', gzipSync],
      ['zstd', zstdCompressSync],
    ])('a %s bomb stops at the limit of plain bytes, and at the ratio', async (_, compress) => {
      const bomb = compress(archive(file('zeros', Buffer.alloc(32 * 1024 * 1024))))
      const plainBytes = 1024 * 1024

      await expect(box.lay(bomb, { limits: { ...DEFAULT_LIMITS, plainBytes } })).rejects.toMatchObject({ code: much })
      await expect(box.lay(bomb, { limits: { ...DEFAULT_LIMITS, ratioFromBytes: plainBytes } })).rejects.toThrow(
        'it unpacks to over 250 times its size',
      )
    })

    test('a bomb of zstd in zstd is unpacked once only', async () => {
      const twice = zstdCompressSync(zstdCompressSync(archive(file('a'))))

      await expect(box.lay(twice)).rejects.toMatchObject({ code: 'invalid-argument' })
    })

    test('attributes of folders are not kept until the end: 60 GB of them are told by 60 MB', async () => {
      const attributes = Array.from({ length: 16 }, (_, index) => [`SCHILY.xattr.none.${index}`, 'a'.repeat(60_000)])
      const before = gzipSync(entry(folder('', { pax: Object.fromEntries(attributes) })).subarray(0, -512))
      const folders = Array.from({ length: 350 }, (_, index) => [before, gzipSync(entry(folder(`${index}`)))])
      const mib = () => process.memoryUsage.rss() / 1024 ** 2
      const start = mib()
      let most = start
      const timer = setInterval(() => {
        most = Math.max(most, mib())
      }, 5)

      await box.lay(Buffer.concat([...folders.flat(), gzipSync(archive())]))

      clearInterval(timer)
      expect(most - start).toBeLessThan(250) // all of them take 340
    })

    test('removing and whiting out the same folders again and again takes no time', async () => {
      const many = Array.from({ length: 3000 }, (_, index) => file(`d/${index}`))
      const again = Array.from({ length: 3000 }, (_, index) =>
        index % 2 === 0 ? file('d/.wh..wh..opq') : file('.wh.d'),
      )

      await box.apply(folder('d'), ...many, ...again)

      expect(readdirSync(join(box.root, 'd'))).toHaveLength(3000)
    }, 20_000) // squared, it would take minutes
  })

  async function expectRefusal(parts: readonly Part[], { code, reason }: { code: string; reason: string }) {
    const failure = await box.apply(...parts).catch((error: unknown) => error)

    expect(failure).toMatchObject({ name: 'Fault', code })
    expect(String(failure)).toContain(reason)
    await box.apply(file('next'))
    expect(existsSync(join(box.root, 'next'))).toBe(true)
  }
})
