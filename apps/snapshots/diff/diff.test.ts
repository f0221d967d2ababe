import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  linkSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { gunzipSync, zstdDecompressSync } from 'node:zlib'
import { lsetxattr, lutimesNs, mkfifo, mknod } from '@gantry/linux/file'
import { MEDIA } from '@gantry/model/descriptor'
import { sha256Of } from '@gantry/model/digest'
import { describe, expect, test } from 'vitest'
import type { Mount } from '../drivers/driver.ts'
import { archive, file, folder, hardLink, type Part, symlink } from '../testing/archive.ts'
import { mounted } from '../testing/mounted.ts'
import { startNode, type TestNode } from '../testing/node.ts'
import { listTree } from '../testing/tree.ts'

const snapshotter = 'overlayfs'
const call = { signal: new AbortController().signal, namespace: 'test', lease: 'keep' }
const CAPABILITY = Buffer.from('0100000200200000000000000000000000000000', 'hex')
const NANOSECONDS = 1_400_000_000_123_456_789n

const BASE: readonly Part[] = [
  folder('etc', { mode: 0o750, uid: 7 }),
  file('etc/kept', 'kept'),
  file('etc/gone', 'gone'),
  file('etc/changed', 'before'),
  folder('var'),
  folder('var/cache'),
  file('var/cache/old', 'old'),
  folder('swapped'),
  file('swapped/in', 'x'),
  symlink('link', 'etc'),
  { name: 'one', content: 'shared' },
  { name: 'two', flag: '1', link: 'one' },
]

/** What a container may do to a tree. */
function change(root: string): void {
  unlinkSync(join(root, 'etc/gone'))
  writeFileSync(join(root, 'etc/changed'), 'after!')
  rmSync(join(root, 'var/cache'), { recursive: true })
  mkdirSync(join(root, 'var/cache'))
  writeFileSync(join(root, 'var/cache/new'), Buffer.alloc(700_000, 'n'))
  rmSync(join(root, 'swapped'), { recursive: true })
  writeFileSync(join(root, 'swapped'), 'a file now')
  unlinkSync(join(root, 'link'))
  symlinkSync(`/${'target/'.repeat(30)}`, join(root, 'link'))
  chmodSync(join(root, 'one'), 0o600)
  const long = join(root, 'd'.repeat(200), 'e'.repeat(200))
  mkdirSync(long, { recursive: true })
  writeFileSync(join(long, 'ünï'), '')
  mkfifo(join(root, 'fifo'), 0o620)
  mknod(join(root, 'device'), 0o060640, 259, 70_000)
  writeFileSync(join(root, 'su'), 'setuid')
  chownSync(join(root, 'su'), 3_000_000_000, 5)
  chmodSync(join(root, 'su'), 0o6755)
  lsetxattr(join(root, 'su'), 'security.capability', CAPABILITY)
  lsetxattr(join(root, 'su'), 'user.bytes', Buffer.from([0, 0x3d, 0x0a, 0xff]))
  linkSync(join(root, 'su'), join(root, 'var/su-too'))
  writeFileSync(join(root, 'hole'), 'x')
  truncateSync(join(root, 'hole'), 3_000_000)
  lutimesNs(join(root, 'su'), NANOSECONDS, NANOSECONDS)
  lutimesNs(join(root, 'link'), NANOSECONDS, -1_500_000_000n + NANOSECONDS)
  utimesSync(join(root, 'var'), 1000, 1000)
}

describe.skipIf(process.getuid?.() !== 0)('packing what has changed (skipped without root: it mounts)', () => {
  test('a changed overlay becomes a layer that makes the same tree of the same parent', async () => {
    await using node = await startNode()
    const { left, right } = await prepareChanged(node)

    const { diff } = await node.diff.diff({ left, right }, call)

    const made = node.blob(diff?.digest ?? '')
    expect(diff).toMatchObject({ mediaType: MEDIA.ociLayerGzip, size: BigInt(made.bytes.length) })
    expect(made.labels).toEqual({ 'containerd.io/uncompressed': sha256Of(gunzipSync(made.bytes)) })
    expect(await treeAfter(node, diff)).toEqual(treeOf(right))
  })

  test('so it does when both trees have to be walked, as of another kind of snapshot', async () => {
    await using node = await startNode()
    const { left, right } = await prepareChanged(node)
    using lower = mounted(left)
    using upper = mounted(right)
    const [from, to] = [bind(lower.path), bind(upper.path)]

    const { diff } = await node.diff.diff({ left: [from], right: [to], mediaType: MEDIA.ociLayerZstd }, call)
    const none = await node.diff.diff({ left: [from], right: [from], mediaType: MEDIA.ociLayer }, call)

    expect(await treeAfter(node, diff)).toEqual(treeOf(right))
    expect(namesOf(node, diff)).not.toContain('etc/kept')
    expect(node.blob(none.diff?.digest ?? '').bytes).toEqual(Buffer.alloc(1024))
  })

  test('a tree without parent is packed whole, and GNU tar lays it out the same', async () => {
    await using node = await startNode()
    const { right } = await prepareChanged(node)
    using whole = mounted(right)

    const { diff } = await node.diff.diff({ right: [bind(whole.path)], mediaType: MEDIA.ociLayer }, call)

    const other = join(node.root, 'new-tar')
    mkdirSync(other)
    execFileSync('tar', ['-C', other, '--xattrs', '--xattrs-include=*', '--same-owner', '-p', '-x'], {
      input: node.blob(diff?.digest ?? '').bytes,
    })
    expect(listTree(other, { times: true })).toEqual(listTree(whole.path, { times: true }))
  })

  test('the same trees are the same bytes, and no time is later than asked for', async () => {
    await using node = await startNode()
    const { left, right } = await prepareChanged(node)
    const request = { left, right, mediaType: MEDIA.ociLayer, labels: { mine: 'yes' } }
    const sourceDateEpoch = { seconds: 1_300_000_000n, nanos: 5 }

    const first = await node.diff.diff(request, call)
    const again = await node.diff.diff(request, call)
    const early = await node.diff.diff({ ...request, sourceDateEpoch }, call)

    expect(again).toEqual(first)
    expect(node.blob(first.diff?.digest ?? '').labels).toEqual({ mine: 'yes' })
    const times = execFileSync('tar', ['--full-time', '-tv'], {
      input: node.blob(early.diff?.digest ?? '').bytes,
      env: { TZ: 'UTC', LC_ALL: 'C' },
    }).toString()
    expect([...new Set(times.match(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\S*/g))].sort()).toEqual([
      '1970-01-01 00:00:00', // of whiteouts
      '1970-01-01 00:16:40', // of var, which was that old
      '2011-03-13 07:06:40.000000005',
    ])
  })

  test('a blob that is there already gets the label that says what it is', async () => {
    await using node = await startNode()
    const { left, right } = await prepareChanged(node)
    const { diff } = await node.diff.diff({ left, right }, call)
    await using other = await startNode()
    other.addBlob(node.blob(diff?.digest ?? '').bytes)

    const again = await other.diff.diff({ left, right }, call)

    expect(again.diff).toEqual(diff)
    expect(other.blob(diff?.digest ?? '').labels).toEqual(node.blob(diff?.digest ?? '').labels)
  })

  test('a folder that was moved, where the kernel notes that only, is compared with what is below', async () => {
    await using node = await startNode()
    const { left, right } = await prepare(node)
    const [overlay] = right
    const redirecting = [{ ...overlay, options: [...(overlay?.options ?? []), 'redirect_dir=on', 'metacopy=on'] }]
    {
      using tree = mounted(redirecting as Mount[])
      renameSync(join(tree.path, 'var'), join(tree.path, 'moved'))
      chmodSync(join(tree.path, 'etc/kept'), 0o600)
    }

    const { diff } = await node.diff.diff({ left, right: redirecting as Mount[] }, call)

    expect(namesOf(node, diff)).toEqual(['etc/', 'etc/kept', 'moved/', 'moved/cache/', 'moved/cache/old', '.wh.var'])
    expect(await treeAfter(node, diff)).toEqual(treeOf(redirecting as Mount[]))
  })

  test('a socket is left out, and a file named as a whiteout is refused', async () => {
    await using node = await startNode()
    const { left, right } = await prepare(node)
    using tree = mounted(right)
    await using socket = createServer().listen(join(tree.path, 'socket'))
    await once(socket, 'listening')

    const { diff } = await node.diff.diff({ left, right, mediaType: MEDIA.ociLayer }, call)
    writeFileSync(join(tree.path, '.wh.etc'), '')

    expect(namesOf(node, diff)).toEqual([])
    await expect(node.diff.diff({ left, right }, call)).rejects.toThrow('this name is a mark')
  })

  test('layers that a client lays out side by side hide what is below when they have got their parent', async () => {
    await using node = await startNode()
    const layers = [
      archive(folder('etc'), file('etc/gone', '1'), file('etc/kept', '1'), folder('var'), file('var/old', '1')),
      archive(file('etc/.wh.gone'), file('etc/new', '2'), file('var/.wh..wh..opq'), file('var/new', '2')),
    ]
    const prepared = await Promise.all(
      layers.map((_, key) => node.snapshots.prepare({ snapshotter, key: `${key}` }, call)),
    )

    await Promise.all(prepared.map(({ mounts }, key) => applyAlone(node, mounts, layers[key] ?? Buffer.alloc(0))))
    await node.snapshots.commit({ snapshotter, key: '0', name: 'base' }, call)
    await node.snapshots.commit({ snapshotter, key: '1', name: 'top', parent: 'base' }, call)

    const { mounts } = await node.snapshots.view({ snapshotter, key: 'both', parent: 'top' }, call)
    using tree = mounted(mounts)
    expect(readdirSync(join(tree.path, 'etc')).sort()).toEqual(['kept', 'new'])
    expect(readdirSync(join(tree.path, 'var'))).toEqual(['new'])
  })

  test('a layer that links to files below is refused when it is laid out alone', async () => {
    await using node = await startNode()
    const { mounts } = await node.snapshots.prepare({ snapshotter, key: 'alone' }, call)

    const applied = applyAlone(node, mounts, archive(hardLink('more', 'below')))

    await expect(applied).rejects.toMatchObject({ code: 'failed-precondition' })
  })

  test('what cannot be packed says why', async () => {
    await using node = await startNode()
    const gone = bind('/nowhere/at/all')

    await expect(node.diff.diff({ right: [gone], mediaType: 'text/plain' }, call)).rejects.toMatchObject({
      code: 'unimplemented',
    })
    await expect(node.diff.diff({ right: [gone] }, call)).rejects.toMatchObject({ code: 'failed-precondition' })
  })
})

function bind(source: string): Mount {
  return { type: 'bind', source, options: ['rw', 'rbind'] }
}

/** A committed layer, and a snapshot on it. */
async function prepare(node: TestNode) {
  const { mounts } = await node.snapshots.prepare({ snapshotter, key: 'base' }, call)
  await node.diff.apply({ diff: { mediaType: MEDIA.ociLayer, digest: node.addBlob(archive(...BASE)) }, mounts }, call)
  await node.snapshots.commit({ snapshotter, key: 'base', name: 'parent' }, call)
  const { mounts: left } = await node.snapshots.view({ snapshotter, key: 'view', parent: 'parent' }, call)
  const { mounts: right } = await node.snapshots.prepare({ snapshotter, key: 'box', parent: 'parent' }, call)
  return { left, right }
}

async function prepareChanged(node: TestNode) {
  const sides = await prepare(node)
  using tree = mounted(sides.right)
  change(tree.path)
  return sides
}

/** The tree that a layer makes of the parent. */
async function treeAfter(node: TestNode, diff: { mediaType: string; digest: string } | undefined): Promise<string[]> {
  const { mounts } = await node.snapshots.prepare({ snapshotter, key: 'after', parent: 'parent' }, call)
  await node.diff.apply({ diff, mounts }, call)
  return treeOf(mounts)
}

/** As containerd's client does with a snapshot that gets its parent only when it is committed. */
async function applyAlone(node: TestNode, mounts: readonly Mount[], layer: Buffer): Promise<void> {
  const options = ['rw', `upperdir=${mounts[0]?.source}`]
  const diff = { mediaType: MEDIA.ociLayer, digest: node.addBlob(layer), size: BigInt(layer.length) }
  await node.diff.apply({ diff, mounts: [{ type: 'overlay', source: 'overlay', options }] }, call)
}

function treeOf(mounts: readonly Mount[]): string[] {
  using tree = mounted(mounts)
  return listTree(tree.path, { times: true })
}

function namesOf(node: TestNode, diff: { digest: string } | undefined): string[] {
  const { bytes } = node.blob(diff?.digest ?? '')
  const plain = bytes[0] === 0x1f ? gunzipSync(bytes) : bytes[0] === 0x28 ? zstdDecompressSync(bytes) : bytes
  const listed = execFileSync('tar', ['-t', '--quoting-style=literal'], { input: plain, env: { LC_ALL: 'C' } })
  return listed.toString().split('\n').filter(Boolean)
}
