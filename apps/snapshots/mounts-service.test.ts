import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { Mounts } from '@gantry/api/containerd/services/mounts/v1/mounts_pb'
import { loopFile } from '@gantry/linux/loop'
import { mount, mountsUnder, unmountAll } from '@gantry/linux/mount'
import { type Client, clientOf, connect } from '@gantry/rpc/client'
import { listen } from '@gantry/rpc/server'
import { bind } from '@gantry/rpc/service'
import { jsonCodec } from '@gantry/store/codec'
import { openStore } from '@gantry/store/store'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { createPool } from './extract/pool.ts'
import { type ActivationRow, createActivations } from './mounts/activations.ts'
import { makeImage } from './mounts/prepare.ts'
import { mountsService } from './mounts-service.ts'
import { FUSE, mountHanging } from './testing/hanging.ts'

/** On a busy machine. */
const SOON = { timeout: 30_000 }

const call = { signal: new AbortController().signal, namespace: 'test' }
const fault = (code: string) => expect.objectContaining({ name: 'Fault', code })
const tmpfs = { type: 'tmpfs', source: 'tmpfs', options: ['size=1m'] }
const bound = (source: string, ...options: string[]) => ({ type: 'bind', source, options: ['rbind', ...options] })

describe.skipIf(process.getuid?.() !== 0)(
  'the Mounts service (skipped without root: it mounts)',
  { timeout: 60_000 },
  () => {
    let base: string
    let folder: string
    let mounts: Client<typeof Mounts>
    let stack: AsyncDisposableStack
    let reported: string[]

    beforeEach(async () => {
      base = mkdtempSync(join(tmpdir(), 'gantry-mounts-'))
      folder = join(base, 'mounts')
      for (const name of ['lower', 'root', 'point']) mkdirSync(join(base, name))
      writeFileSync(join(base, 'lower', 'a'), 'below')
      await start()
    })
    afterEach(async () => {
      for (const { info } of await listed()) await mounts.deactivate({ name: info?.name ?? '' }, call)
      await stack.disposeAsync()
      expect(mountsUnder(base)).toEqual([])
      expect(readdirSync(folder)).toEqual([])
      rmSync(base, { recursive: true })
    })

    async function start(): Promise<void> {
      reported = []
      stack = new AsyncDisposableStack()
      const { table, write, ...rest } = stack.use(openStore(join(base, 'records')))
      const activations = await createActivations({
        table: table('activations', jsonCodec<ActivationRow>()),
        write,
        mounters: stack.use(createPool(2)),
        folder,
        roots: [join(base, 'root')],
        clock: () => 5000,
        report: (_, path) => void reported.push(path),
      })
      stack.defer(() => rest[Symbol.asyncDispose]())
      const address = join(base, 'mounts.sock')
      const log = { error() {}, debug() {} }
      stack.use(await listen({ address, bindings: [bind(Mounts, mountsService(activations))], log }))
      mounts = clientOf(Mounts, stack.use(connect(address)))
    }

    async function listed() {
      return Array.fromAsync(mounts.list({}, call))
    }

    const overlay = {
      type: 'format/mkdir/overlay',
      source: 'overlay',
      options: [
        'X-containerd.mkdir.path={{ mount 0 }}/upper:0755',
        'X-containerd.mkdir.path={{mount 0}}/work:0711:5:6',
        'workdir={{ mount 0 }}/work',
        'upperdir={{ mount 0 }}/upper',
        'lowerdir={{ overlay 1 1 }}',
      ],
    }

    test('what refers to mounts before it is filled in and left to the caller, those before it are mounted', async () => {
      const { info } = await mounts.activate(
        { name: 'box', mounts: [tmpfs, bound(join(base, 'lower'), 'ro'), overlay], labels: { of: 'box' } },
        call,
      )

      const [upper = '', lower = ''] = info?.active.map(({ mountPoint }) => mountPoint) ?? []
      expect(info?.active.map(({ mount }) => mount?.type)).toEqual(['tmpfs', 'bind'])
      expect(info?.active[0]?.mountedAt?.seconds).toBe(5n)
      expect(info?.system).toEqual([
        expect.objectContaining({
          type: 'overlay',
          source: 'overlay',
          options: [`workdir=${upper}/work`, `upperdir=${upper}/upper`, `lowerdir=${lower}`],
        }),
      ])
      const { mode, uid, gid } = statSync(join(upper, 'work'))
      expect([mode & 0o7777, uid, gid]).toEqual([0o711, 5, 6])
      for (const each of info?.system ?? []) mount({ ...each, target: join(base, 'point') })
      expect(readFileSync(join(base, 'point', 'a'), 'utf8')).toBe('below')
      unmountAll(join(base, 'point'))
      expect((await mounts.info({ name: 'box' }, call)).info).toEqual(info)
      expect(await listed()).toEqual([expect.objectContaining({ info })])
      expect(await Array.fromAsync(mounts.list({}, { ...call, namespace: 'other' }))).toEqual([])

      await mounts.deactivate({ name: 'box' }, call)

      expect(mountsUnder(base)).toEqual([])
      await expect(mounts.info({ name: 'box' }, call)).rejects.toThrow(fault('not-found'))
      await expect(mounts.deactivate({ name: 'box' }, call)).rejects.toThrow(fault('not-found'))
    })

    test('what is wanted for the time being is mounted as a whole', async () => {
      const list = [tmpfs, bound(join(base, 'lower'), 'ro'), overlay]
      const { info } = await mounts.activate({ name: 'look', mounts: list, temporary: true }, call)

      const last = info?.active.at(-1)?.mountPoint ?? ''
      expect(info?.active).toHaveLength(3)
      expect(info?.system).toEqual([expect.objectContaining(bound(last))])
      expect(readFileSync(join(last, 'a'), 'utf8')).toBe('below')
    })

    test('a NUL in a mount is refused', async () => {
      for (const type of ['loop', 'bind'])
        await expect(
          mounts.activate({ name: 'nul', mounts: [{ type, source: 'a\0b' }], temporary: true }, call),
        ).rejects.toThrow(fault('invalid-argument'))
    })

    test('a target lies inside the mount before it', async () => {
      const inside = { ...bound(join(base, 'lower')), target: '/deep' }
      const image = bound(join(base, 'root'))
      mkdirSync(join(base, 'root', 'deep'))
      const { info } = await mounts.activate({ name: 'deep', mounts: [image, inside], temporary: true }, call)

      expect(readFileSync(join(info?.system[0]?.source ?? '', 'deep', 'a'), 'utf8')).toBe('below')
    })

    test('an image is made, becomes a device, and is the source of what comes next', async () => {
      const file = join(base, 'root', 'image')
      const image = {
        type: 'mkfs/loop',
        source: file,
        options: ['X-containerd.mkfs.size=16MiB', 'X-containerd.mkfs.fs=ext4'],
      }
      const list = [image, { type: 'format/ext4', source: '{{ mount 0 }}', options: ['rw'] }]

      const { info } = await mounts.activate({ name: 'disk', mounts: list, temporary: true }, call)

      expect(statSync(file).size).toBe(16 * 1024 * 1024)
      expect(readdirSync(info?.active[1]?.mountPoint ?? '')).toEqual(['lost+found'])
      const device = info?.active[1]?.mount?.source ?? ''
      await mounts.deactivate({ name: 'disk' }, call)
      await vi.waitFor(() => expect(loopFile(device)).toBeUndefined(), SOON)
      writeFileSync(join(base, 'root', 'other'), 'in use')
      const again = {
        type: 'mkfs/ext4',
        source: join(base, 'root', 'other'),
        options: ['X-containerd.mkfs.size=1G', 'loop'],
      }
      const made = await mounts.activate({ name: 'again', mounts: [again] }, call)
      expect(made.info?.system).toEqual([expect.objectContaining({ type: 'ext4', options: ['loop'] })])
      expect(readFileSync(join(base, 'root', 'other'), 'utf8')).toBe('in use') // what is there is left alone
    })

    test('the device of an image goes also when its name led through a link, and when it is deleted', async () => {
      symlinkSync(join(base, 'root'), join(base, 'link'))
      const loop = { type: 'loop', source: join(base, 'link', 'image'), options: [] }
      writeFileSync(loop.source, '')
      truncateSync(loop.source, 1024 * 1024)
      const { info } = await mounts.activate({ name: 'disk', mounts: [loop] }, call)
      const device = readlinkSync(info?.active[0]?.mountPoint ?? '')
      expect(loopFile(device)).toMatch(/\/root\/image$/)
      rmSync(loop.source)

      await mounts.deactivate({ name: 'disk' }, call)

      await vi.waitFor(() => expect(loopFile(device) ?? '').not.toContain(basename(base)), SOON)
    })

    test('an image that two make at once is the one of the faster, who may use it already', async () => {
      const source = join(base, 'root', 'shared')
      const both = ['16MiB', '32GiB'].map((size) =>
        makeImage({ type: 'ext4', source, options: [`X-containerd.mkfs.size=${size}`] }, call.signal),
      )
      await Promise.race(both)
      const { ino } = statSync(source)

      await Promise.all(both)

      expect(statSync(source).ino).toBe(ino)
      expect(readdirSync(join(base, 'root'))).toEqual(['shared'])
    })

    test('nothing to do is said so that the caller mounts by itself', async () => {
      const list = [bound('/a'), { type: 'overlay', source: 'overlay', options: ['lowerdir=/a:/b'] }]

      await expect(mounts.activate({ name: 'x', mounts: list }, call)).rejects.toThrow(fault('unimplemented'))
      await expect(mounts.update({ info: { name: 'x' } }, call)).rejects.toThrow(fault('unimplemented'))
    })

    test.each([
      ['no name', '', [tmpfs, overlay], 'invalid-argument'],
      [
        'a reference to what comes later',
        'x',
        [{ ...tmpfs, type: 'format/tmpfs', source: '{{ mount 0 }}' }],
        'invalid-argument',
      ],
      ['an unknown word', 'x', [tmpfs, { ...tmpfs, type: 'format/tmpfs', source: '{{ env 0 }}' }], 'invalid-argument'],
      [
        'a folder elsewhere',
        'x',
        [{ ...tmpfs, type: 'mkdir/tmpfs', options: ['X-containerd.mkdir.path=/gantry-x'] }],
        'invalid-argument',
      ],
      [
        'a folder by way of dots',
        'x',
        [tmpfs, { ...overlay, options: ['X-containerd.mkdir.path={{ mount 0 }}/../x'] }],
        'invalid-argument',
      ],
      [
        'an unknown option',
        'x',
        [{ ...tmpfs, type: 'mkfs/loop', source: '/x', options: ['X-containerd.mkfs.as=1'] }],
        'invalid-argument',
      ],
      ['no size', 'x', [{ ...tmpfs, type: 'mkfs/loop', source: '/gantry-x', options: [] }], 'invalid-argument'],
      ['what is not there', 'x', [bound('/gantry/absent'), { ...overlay, options: [] }], 'failed-precondition'],
    ])('%s is refused and leaves nothing', async (_, name, list, code) => {
      await expect(mounts.activate({ name, mounts: list }, call)).rejects.toThrow(fault(code))

      expect(mountsUnder(base)).toEqual([])
      expect(readdirSync(folder)).toEqual([])
    })

    test('a link in a mount leads to no folder outside of it', async () => {
      const link = join(base, 'root', 'link')
      symlinkSync('/tmp', link)
      const list = [{ ...tmpfs, type: 'mkdir/tmpfs', options: [`X-containerd.mkdir.path=${link}/gantry-through-link`] }]

      await expect(mounts.activate({ name: 'x', mounts: list }, call)).rejects.toThrow(fault('failed-precondition'))
      expect(readdirSync('/tmp')).not.toContain('gantry-through-link')
    })

    test.skipIf(!existsSync(FUSE))(
      'all others are answered while a mount hangs (skipped where the kernel lets nobody serve a file system)',
      async () => {
        const list = [bound(join(base, 'point', 'absent')), { ...overlay, options: [] }]
        let hanging: Promise<unknown>
        {
          using _ = mountHanging(join(base, 'point'))
          hanging = mounts.activate({ name: 'hangs', mounts: list }, call)
          hanging.catch(() => {}) // heard below

          const other = mounts.activate({ name: 'other', mounts: [tmpfs, { ...overlay, options: [] }] }, call)

          expect(await Promise.race([hanging, other])).toBe(await other)
          expect((await listed()).map(({ info }) => info?.name)).toEqual(['other'])
        }
        await expect(hanging).rejects.toThrow(fault('failed-precondition'))
        expect(readdirSync(folder)).toHaveLength(1)
      },
    )

    test('of two under one name the second is told so', async () => {
      const list = [tmpfs, { ...overlay, options: [] }]
      const results = await Promise.allSettled([1, 2].map(() => mounts.activate({ name: 'one', mounts: list }, call)))

      expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
      await expect(mounts.activate({ name: 'one', mounts: list }, call)).rejects.toThrow(fault('already-exists'))
      expect(readdirSync(folder)).toHaveLength(1)
    })

    test('a restart keeps what stands, and takes away what does not, records and mounts', async () => {
      const list = [tmpfs, { ...overlay, options: [] }]
      for (const name of ['stands', 'fell']) await mounts.activate({ name, mounts: list }, call)
      const fell = (await mounts.info({ name: 'fell' }, call)).info?.active[0]?.mountPoint ?? ''
      await stack.disposeAsync()
      unmountAll(fell)
      mkdirSync(join(folder, 'stray', '0'), { recursive: true })
      mount({ ...tmpfs, target: join(folder, 'stray', '0') })

      await start()

      expect((await listed()).map(({ info }) => info?.name)).toEqual(['stands'])
      expect(readdirSync(folder)).toHaveLength(1)
      await mounts.deactivate({ name: 'stands' }, call)
      expect(mountsUnder(base)).toEqual([])
    })

    test('a restart goes on although something cannot be taken away', async () => {
      await mounts.activate({ name: 'stands', mounts: [tmpfs, { ...overlay, options: [] }] }, call)
      await stack.disposeAsync()
      const strange = [join(folder, 'file'), join(folder, 'full', '0', 'file')]
      mkdirSync(join(folder, 'full', '0'), { recursive: true })
      for (const file of strange) writeFileSync(file, '')

      await start()

      expect((await listed()).map(({ info }) => info?.name)).toEqual(['stands'])
      expect(reported.sort()).toEqual([join(folder, 'file'), join(folder, 'full')])
      expect(strange.map((file) => existsSync(file))).toEqual([true, true])
      for (const name of ['file', 'full']) rmSync(join(folder, name), { recursive: true })
    })

    test('a restart finds what stands when its folder is reached through a link', async () => {
      await stack.disposeAsync()
      symlinkSync(base, join(base, 'link'))
      const real = folder
      folder = join(base, 'link', 'mounts')
      await start()
      await mounts.activate({ name: 'stands', mounts: [tmpfs, { ...overlay, options: [] }] }, call)
      await stack.disposeAsync()

      await start()

      expect((await listed()).map(({ info }) => info?.name)).toEqual(['stands'])
      await mounts.deactivate({ name: 'stands' }, call)
      folder = real
      expect([mountsUnder(base), reported]).toEqual([[], []])
    })
  },
)
