import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  chownSync,
  closeSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { lsetxattr, lutimesNs, mkfifo, mknod } from '@gantry/linux/file'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { archive, file, folder, hardLink, type Part, symlink } from '../testing/archive.ts'
import { listTree } from '../testing/tree.ts'
import type { Applied, ApplyJob } from './job.ts'
import { DEFAULT_LIMITS } from './limits.ts'
import { createPool, type Pool } from './pool.ts'

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')
const forever = new AbortController().signal

describe.skipIf(process.getuid?.() !== 0)(
  'laying out a layer (skipped without root: owners, devices and chroot need it)',
  () => {
    let pool: Pool
    let base: string
    let root: string

    beforeAll(() => {
      pool = createPool(2)
    })
    afterAll(() => pool[Symbol.asyncDispose]())
    beforeEach(() => {
      base = mkdtempSync(join(tmpdir(), 'gantry-extract-'))
      root = join(base, 'root')
      mkdirSync(root)
      writeFileSync(join(base, 'secret'), 'outside')
    })
    afterEach(() => rmSync(base, { recursive: true }))

    function applyBytes(bytes: Buffer, more: Partial<ApplyJob> = {}, signal = forever): Promise<Applied> {
      const blob = join(base, 'blob')
      writeFileSync(blob, bytes)
      const job: ApplyJob = {
        kind: 'apply',
        blob,
        detect: true,
        root,
        overlay: false,
        lowers: [],
        limits: DEFAULT_LIMITS,
        sync: false,
        measure: false,
        ...more,
      }
      return pool.run(job, signal)
    }
    const apply = (...parts: Part[]) => applyBytes(archive(...parts))
    const applyOverlay = (parts: Part[], lowers: string[] = []) =>
      applyBytes(archive(...parts), { overlay: true, lowers })
    const names = () => listTree(root).map((line) => line.split(' ')[0])

    test('a file keeps the owner of its entry in folders that hand their group on', async () => {
      await apply(
        file('before/a'),
        folder('before', { mode: 0o2755, gid: 50 }),
        file('before/b'),
        folder('shared', { mode: 0o2755, gid: 50 }),
        file('shared/implied/c'),
        { ...file('shared/d'), uid: 3, gid: 4 },
      )

      for (const path of ['before/a', 'before/b', 'shared/implied/c'])
        expect([path, statSync(join(root, path)).gid]).toEqual([path, 0])
      expect(statSync(join(root, 'shared/d'))).toMatchObject({ uid: 3, gid: 4 })
    })

    test('a tree comes out as GNU tar lays it out: modes, owners, nanoseconds, links, devices, attributes, long names', async () => {
      const source = join(base, 'source')
      const other = join(base, 'tar')
      for (const path of [source, other, join(source, 'dir'), join(source, 'sticky'), join(source, 'setgid')])
        mkdirSync(path)
      const deep = join(source, 'l'.repeat(120), 'm'.repeat(200))
      mkdirSync(deep, { recursive: true })
      writeFileSync(join(deep, 'ünïcode'), 'x'.repeat(100_000))
      writeFileSync(join(source, 'dir', 'su'), 'setuid')
      execFileSync('ln', [join(source, 'dir', 'su'), join(source, 'zz-hard')])
      symlinkSync('/etc/passwd', join(source, 'absolute'))
      symlinkSync('../../up', join(source, 'dir', 'dangling'))
      mkfifo(join(source, 'fifo'), 0o640)
      mknod(join(source, 'null'), 0o020666, 1, 3)
      mknod(join(source, 'disk'), 0o060660, 8, 300)
      chownSync(join(source, 'dir', 'su'), 70_000, 12)
      chmodSync(join(source, 'dir', 'su'), 0o6751)
      chownSync(join(source, 'setgid'), 0, 50)
      chmodSync(join(source, 'setgid'), 0o2775)
      mkdirSync(join(source, 'setgid', 'child'), { mode: 0o755 })
      chmodSync(join(source, 'setgid', 'child'), 0o755)
      chownSync(join(source, 'setgid', 'child'), 0, 0)
      chmodSync(join(source, 'sticky'), 0o1777)
      lsetxattr(join(source, 'dir', 'su'), 'user.text', Buffer.from('value'))
      lsetxattr(
        join(source, 'dir', 'su'),
        'security.capability',
        Buffer.from('0100000280ff000000000000000000000000000000', 'hex').subarray(0, 20),
      )
      lsetxattr(join(source, 'dir'), 'trusted.bytes', Buffer.from([0x80, 0, 0xff]))
      for (const path of ['absolute', 'dir/su', 'fifo', 'sticky', 'dir'])
        lutimesNs(join(source, path), 1n, 1_500_000_000_123_456_789n)
      const packed = execFileSync('tar', ['-C', source, '--format=pax', '--xattrs', '--xattrs-include=*', '-c', '.'], {
        maxBuffer: 1e8,
      })
      execFileSync('tar', ['-C', other, '--xattrs', '--xattrs-include=*', '--same-owner', '-p', '-x'], {
        input: packed,
      })

      const applied = await applyBytes(gzipSync(packed), { measure: true, sync: true })

      expect(listTree(root, { times: true })).toEqual(listTree(other, { times: true }))
      expect(applied.digest).toBe(`sha256:${createHash('sha256').update(packed).digest('hex')}`)
      expect(applied.size).toBe(BigInt(packed.length))
      expect(applied.usage?.inodes).toBe(14n)
    })

    test.each([['--format=gnu'], ['--sparse-version=0.0'], ['--sparse-version=0.1'], ['--sparse-version=1.0']])(
      'files with holes, as GNU tar %s writes them, keep their content and their holes',
      async (format) => {
        const source = join(base, 'root-of-holes')
        mkdirSync(source)
        const fd = openSync(join(source, `${'long'.repeat(30)} name`), 'w')
        for (let at = 0; at < 60; at++) writeSync(fd, `piece ${at}`, at * 400_000 + 1)
        ftruncateSync(fd, 28_000_000) // some of it is on its way to the disk before the end
        closeSync(fd)
        writeFileSync(join(source, 'all-hole'), '')
        truncateSync(join(source, 'all-hole'), 3_000_000)
        writeFileSync(join(source, 'none'), Buffer.alloc(5000, 'x'))
        const packed = execFileSync('tar', ['-C', source, '--format=pax', format, '--sparse', '-c', '.'])

        await applyBytes(packed)

        expect(packed.length).toBeLessThan(1_000_000)
        expect(listTree(root)).toEqual(listTree(source))
        expect(statSync(join(root, 'all-hole')).blocks).toBe(0)
        rmSync(source, { recursive: true })
      },
    )

    test('the digest covers what follows the end of the archive', async () => {
      const bytes = Buffer.concat([archive(file('a')), Buffer.from('trailing')])

      expect(await applyBytes(bytes)).toMatchObject({
        size: BigInt(bytes.length),
        digest: `sha256:${createHash('sha256').update(bytes).digest('hex')}`,
      })
    })

    test('a later entry replaces an earlier one; a folder keeps what is in it', async () => {
      await apply(
        file('a', 'one'),
        file('a', 'two'),
        folder('d'),
        file('d/x'),
        folder('d', { mode: 0o700 }),
        symlink('l', 'd'),
        folder('l'),
        file('e'),
        symlink('e', 'a'),
      )

      expect(listTree(root)).toEqual([
        'a 100000 644 0:0 two',
        'd 40000 700 0:0',
        'd/x 100000 644 0:0',
        'e 120000 0:0 -> a',
        'l 40000 755 0:0',
      ])
    })

    test('entries without their folder get one, also behind a link', async () => {
      await apply(file('a/b/c'), symlink('var-run', '/run/deep'), file('var-run/x'))

      expect(names()).toEqual(['a', 'a/b', 'a/b/c', 'run', 'run/deep', 'run/deep/x', 'var-run'])
    })

    test('a default access list of a folder changes no modes', async () => {
      const entryOf = (tag: number, bits: number) => Buffer.from([tag, 0, bits, 0, 255, 255, 255, 255])
      const list = Buffer.concat([Buffer.from([2, 0, 0, 0]), entryOf(1, 7), entryOf(4, 0), entryOf(0x20, 0)])
      const pax = { 'SCHILY.xattr.system.posix_acl_default': list }
      await apply(folder('d', { pax }), folder('d/inner'), file('d/a'), file('d/inner/b'))

      const modeOf = (name: string) => statSync(join(root, name)).mode & 0o7777
      expect(['d', 'd/inner', 'd/a', 'd/inner/b'].map(modeOf)).toEqual([0o755, 0o755, 0o644, 0o644])
    })

    test('names that are not UTF-8 are kept byte for byte', async () => {
      await apply(folder('caf\xe9'), file('caf\xe9/\xff'))

      expect(readdirSync(root, { encoding: 'latin1' })).toEqual(['caf\xe9'])
      expect(readdirSync(Buffer.from(`${root}/caf\xe9`, 'latin1'), { encoding: 'latin1' })).toEqual(['\xff'])
    })

    test('the root keeps its own mode, as with containerd', async () => {
      chmodSync(root, 0o750)
      await apply(folder('./', { mode: 0o777, uid: 7 }), file('./a'))

      expect([statSync(root).mode & 0o7777, statSync(root).uid]).toEqual([0o750, 0])
    })

    test('the times of folders are right although files came after them', async () => {
      await apply(folder('d', { mtime: 1000 }), file('d/a'), file('d/b'))

      expect(statSync(join(root, 'd')).mtimeMs).toBe(1_000_000)
    })

    test('an attribute of the overlay file system in an archive is left out', async () => {
      await apply({
        name: 'd',
        flag: '5',
        pax: { 'SCHILY.xattr.trusted.overlay.redirect': '/etc', 'SCHILY.xattr.user.a': 'b' },
      })

      expect(listTree(root)[0]).toMatch(/user\.a=62$/)
    })

    describe('whiteouts that delete', () => {
      beforeEach(async () => {
        await apply(folder('d'), file('d/old'), folder('d/sub'), file('d/sub/old'), file('gone'))
      })

      test('take away what was there before', async () => {
        await apply(file('.wh.gone'), file('d/.wh.sub'), file('.wh.absent'))

        expect(names()).toEqual(['d', 'd/old'])
      })

      test('of a whole folder keep what their own layer brings, before and after them', async () => {
        await apply(file('d/before'), file('d/sub/before'), file('d/.wh..wh..opq'), file('d/after'))

        expect(names()).toEqual(['d', 'd/after', 'd/before', 'd/sub', 'd/sub/before', 'gone'])
      })

      test('never take what their own layer brings', async () => {
        await apply(file('new'), file('.wh.new'), file('.wh.gone'), file('gone', 'again'))

        expect(names()).toEqual(['d', 'd/old', 'd/sub', 'd/sub/old', 'gone', 'new'])
      })

      test('of AUFS are no files', async () => {
        await apply(file('.wh..wh.aufs'), folder('.wh..wh.plnk'), file('.wh..wh.plnk/1.2'))

        expect(names()).toEqual(['d', 'd/old', 'd/sub', 'd/sub/old', 'gone'])
      })
    })

    describe('whiteouts that mark', () => {
      const GONE = '20000 0 0:0'
      const OPAQUE = 'trusted.overlay.opaque=79'

      test('become character devices 0:0 and opaque folders', async () => {
        await applyOverlay([file('.wh.gone'), file('d/.wh..wh..opq'), file('d/new'), file('.wh..wh..opq')])

        expect(listTree(root)).toEqual([`d 40000 755 0:0 ${OPAQUE}`, 'd/new 100000 644 0:0', `gone ${GONE}`])
      })

      test('leave what their own layer brings, and make a folder they meet opaque', async () => {
        await applyOverlay([
          file('new'),
          file('.wh.new'),
          folder('d'),
          file('d/x'),
          file('.wh.d'),
          file('.wh.e'),
          folder('e'),
          file('.wh.f'),
          file('f/x'),
        ])

        expect(listTree(root)).toEqual([
          `d 40000 755 0:0 ${OPAQUE}`,
          'd/x 100000 644 0:0',
          `e 40000 755 0:0 ${OPAQUE}`,
          `f 40000 755 0:0 ${OPAQUE}`,
          'f/x 100000 644 0:0',
          'new 100000 644 0:0',
        ])
      })

      test('a hard link to a file of the layers below brings it up, with all that belongs to it', async () => {
        const [near, far] = [join(base, 'near'), join(base, 'far')]
        for (const path of [near, join(far, 'a', 'b')]) mkdirSync(path, { recursive: true })
        writeFileSync(join(far, 'a', 'b', 'big'), Buffer.alloc(600_000, 'b'))
        writeFileSync(join(far, 'hidden'), '')
        chownSync(join(far, 'a', 'b', 'big'), 5, 6)
        chmodSync(join(far, 'a', 'b', 'big'), 0o4750)
        chmodSync(join(far, 'a', 'b'), 0o711)
        lsetxattr(join(far, 'a', 'b', 'big'), 'user.mine', Buffer.from('1'))
        lutimesNs(join(far, 'a', 'b', 'big'), 5n, 1_400_000_000_000_000_005n)
        const parts = [{ ...hardLink('name', 'a/b/big'), mode: 0o777, uid: 9 }, hardLink('again', 'name')]

        const applied = await applyOverlay(parts, [near, far])

        const facts = `100000 4750 5:6 1400000000000000005 600000 bytes ${sha256(Buffer.alloc(600_000, 'b'))}`
        expect(listTree(root, { times: true }).filter((line) => !/^a(\/b)? /.test(line))).toEqual([
          `a/b/big ${facts} user.mine=31`,
          `again ${facts} = a/b/big user.mine=31`,
          `name ${facts} = again user.mine=31`,
        ])
        expect(statSync(join(root, 'a', 'b')).mode & 0o7777).toBe(0o711)
        expect(applied.loose.needsBelow).toBe(false)
      })

      test.each([
        ['what the layer itself deletes', [file('.wh.hidden'), hardLink('name', 'hidden')], 'is not there'],
        ['what was in a folder it empties', [file('a/.wh..wh..opq'), hardLink('name', 'a/in')], 'is not there'],
        ['what nobody has', [hardLink('name', 'nothing')], 'is not there'],
        ['a FIFO', [hardLink('name', 'fifo')], 'it is no file'],
        ['what a link outside names', [hardLink('name', 'out/secret')], 'is not there'],
      ] as const)('a hard link to %s is refused', async (_, parts, message) => {
        const lower = join(base, 'lower')
        mkdirSync(join(lower, 'a'), { recursive: true })
        for (const path of ['hidden', 'a/in']) writeFileSync(join(lower, path), '')
        mkfifo(join(lower, 'fifo'), 0o600)
        symlinkSync(base, join(lower, 'out'))

        await expect(applyOverlay([...parts], [lower])).rejects.toThrow(message)
      })

      test('without the layers below at hand it says that it needs them, and what it hashes to', async () => {
        const bytes = archive(hardLink('name', 'below'), file('after'))

        const applied = await applyBytes(bytes, { overlay: true })

        expect(applied).toMatchObject({ digest: `sha256:${sha256(bytes)}`, loose: { needsBelow: true } })
      })

      test('folders that the archive only implies take after the layers below, nearest first', async () => {
        const [near, far] = [join(base, 'near'), join(base, 'far')]
        mkdirSync(join(near, 'a'), { recursive: true })
        mkdirSync(join(far, 'a', 'b'), { recursive: true })
        mkdirSync(join(far, 'real'))
        chmodSync(join(near, 'a'), 0o1750)
        chownSync(join(near, 'a'), 5, 6)
        chmodSync(join(far, 'a'), 0o700)
        chmodSync(join(far, 'a', 'b'), 0o711)
        lsetxattr(join(far, 'a', 'b'), 'trusted.mine', Buffer.from('1'))
        chmodSync(join(far, 'real'), 0o770)
        symlinkSync('/real', join(far, 'link'))
        symlinkSync('../../../..', join(near, 'escape'))

        await applyOverlay([file('a/b/c'), file('link/x'), file('escape/x')], [near, far])

        expect(listTree(root)).toEqual([
          'a 40000 1750 5:6',
          'a/b 40000 711 0:0 trusted.mine=31',
          'a/b/c 100000 644 0:0',
          `escape 40000 ${(statSync(near).mode & 0o7777).toString(8)} 0:0`,
          'escape/x 100000 644 0:0',
          'link 40000 770 0:0',
          'link/x 100000 644 0:0',
        ])
      })
    })

    test('a target that is not there is the fault of the call', async () => {
      await expect(applyBytes(archive(), { root: join(base, 'absent') })).rejects.toMatchObject({
        code: 'failed-precondition',
      })
    })

    test('a call that is given up stops the work', async () => {
      const abort = new AbortController()
      const big = archive(
        ...Array.from({ length: 20 }, (_, index) => file(`f${index}`, Buffer.alloc(10 * 1024 * 1024))),
      )
      const work = applyBytes(big, {}, abort.signal)

      abort.abort()

      await expect(work).rejects.toMatchObject({ code: 'cancelled' })
      expect(readdirSync(root).length).toBeLessThan(20)
    })

    test.each(['d', '!'])('a tree too deep to name is deleted: %s', async (start) => {
      for (const there of ['.gantry-deep-0', '.gantry-deep-1']) writeFileSync(join(root, there), '')
      const name = `'${start}'.padEnd(200, 'd')`
      const script = `for (let i = 0; i < 60; i++) { fs.mkdirSync(${name}); process.chdir(${name}) } fs.writeFileSync('end', '')`
      execFileSync(process.execPath, ['-e', script], { cwd: root })

      await pool.run({ kind: 'empty', root }, forever)

      expect(readdirSync(root)).toEqual([])
    })

    test('usage counts blocks and a file with two names once', async () => {
      writeFileSync(join(root, 'a'), Buffer.alloc(10_000))
      execFileSync('ln', [join(root, 'a'), join(root, 'b')])
      mkdirSync(join(root, 'd'))

      const usage = await pool.run({ kind: 'usage', root }, forever)

      expect(usage).toEqual({ size: 3n * 4096n + 2n * BigInt(statSync(root).blocks * 512), inodes: 3n })
    })
  },
)
