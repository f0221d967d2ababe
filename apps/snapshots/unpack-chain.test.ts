import { spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { mount, unmount } from '@gantry/linux/mount'
import { MEDIA } from '@gantry/model/descriptor'
import { sha256Of } from '@gantry/model/digest'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { archive, file, folder, hardLink, type Part, symlink } from './testing/archive.ts'
import { startNode, type TestNode } from './testing/node.ts'
import { listTree } from './testing/tree.ts'

const snapshotter = 'overlayfs'
const KILLS = Number(process.env.GANTRY_TEST_KILLS ?? 4)
const call = () => ({ signal: AbortSignal.timeout(60_000), namespace: 'test', lease: 'keep' })
const owned = { mode: 0o2750, uid: 70, gid: 71, mtime: 1_300_000_000 }

/** What an image is made of that depends on the layers below. */
const CHAIN: readonly Part[][] = [
  [
    folder('a', owned),
    folder('a/b', { mode: 0o711, mtime: 1_200_000_000 }),
    file('a/b/old', 'old'),
    file('a/gone', 'gone'),
    folder('full', { pax: { 'SCHILY.xattr.user.kept': 'yes' } }),
    file('full/one'),
    file('full/two'),
    folder('full/sub', { mode: 0o700, uid: 9 }),
    file('replaced'),
    folder('tree', { mtime: 1_100_000_000 }),
    file('tree/x'),
    symlink('link', 'a/b'),
  ],
  [file('a/b/new', 'new'), file('a/.wh.gone'), hardLink('a/b/again', 'a/b/new'), hardLink('a/b/older', 'a/b/old')],
  [folder('full'), file('full/.wh..wh..opq'), file('full/three', '3'), file('.wh.tree'), file('implied/here', 'x')],
  [folder('replaced', { mode: 0o700 }), file('replaced/in', 'y'), file('a/b/c/d/e', 'deep'), file('implied/too')],
  [],
  [
    folder('tree', { uid: 5, mtime: 1_000_000_000 }),
    file('tree/z'),
    folder('a/b', owned),
    file('full/four'),
    file('full/sub/five'),
  ],
]
const UNDESCRIBED = /^(implied|many|many\/.|a\/b\/c|a\/b\/c\/d|full\/sub) /
const many = (layer: number): Part[] =>
  Array.from({ length: 200 }, (_, index) => file(`many/${layer}/${index}`, Buffer.alloc(3000, index % 250)))

describe.skipIf(process.getuid?.() !== 0)('a chain of layers (skipped without root: it extracts and mounts)', () => {
  let base: string
  beforeEach(() => {
    base = mkdtempSync(join(tmpdir(), 'gantry-chain-'))
  })
  afterEach(() => rmSync(base, { recursive: true }))

  test('unpacked side by side it is the tree that its layers make when each is applied on the one before', async () => {
    await using node = await startNode()
    const archives = CHAIN.map((parts) => archive(...parts))

    const top = await unpackAll(node, archives)
    const after = await applyAll(node, archives)

    const tree = await treeOf(node, top)
    expect(tree).toEqual(await treeOf(node, after))
    expect(tree).toContainEqual(expect.stringMatching(/^a\/b\/new .* = a\/b\/again$/))
    expect(tree.map((line) => line.split(' ')[0])).not.toContain('tree/x')
  })

  test('a layer whose base is removed meanwhile is told so', async () => {
    await using node = await startNode()
    const [base, top] = [archive(file('a')), archive(file('b'))]
    await unpackAll(node, [base])
    const growing = node.growBlob(top)
    const layers = [base, top].map((bytes) => ({
      blob: { digest: sha256Of(bytes), mediaType: MEDIA.ociLayer, size: BigInt(bytes.length) },
      diffId: sha256Of(bytes),
    }))
    const unpack = async () => {
      for await (const { layer } of node.unpack.unpack({ snapshotter, layers }, call())) {
        if (layer === 0) continue
        await node.snapshots.remove({ snapshotter, key: sha256Of(base) }, call())
        growing.finish()
      }
    }

    await expect(unpack()).rejects.toThrow(expect.objectContaining({ code: 'not-found' }))
  })

  test(`killed ${KILLS} times at any moment, the next try makes it whole and nothing is left`, {
    timeout: KILLS * 20_000,
  }, async () => {
    const archives = CHAIN.map((parts, layer) => archive(...parts, ...many(layer)))
    const folder = join(base, 'archives')
    mkdirSync(folder)
    for (const [index, bytes] of archives.entries()) writeFileSync(join(folder, String(index)), bytes)
    let expected: string[] | undefined

    for (let round = 0; round < KILLS; round++) {
      const at = join(base, `node-${round}`)
      mkdirSync(at)
      await unpackAndKill(at, folder)

      {
        await using node = await startNode(at)
        const top = await unpackAll(node, archives)
        const tree = await treeOf(node, top)
        expected ??= await applied(archives)

        expect(tree).toEqual(expected)
        expect(await names(node)).toHaveLength(archives.length)
        await vi.waitFor(() => expect(readdirSync(node.root)).toHaveLength(archives.length), 10_000)
      }
      rmSync(at, { recursive: true })
    }
  })

  /** Starts a process that unpacks, and kills it a little later. */
  async function unpackAndKill(at: string, archives: string): Promise<void> {
    const child = spawn(
      process.execPath,
      [new URL('./testing/unpack-once.ts', import.meta.url).pathname, at, archives],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    )
    const exit = once(child, 'exit')
    await once(child.stdout, 'data')
    await sleep(randomInt(0, 500))
    child.kill('SIGKILL')
    await exit
  }

  async function applied(archives: readonly Buffer[]): Promise<string[]> {
    await using node = await startNode()
    return await treeOf(node, await applyAll(node, archives))
  }
})

async function unpackAll(node: TestNode, archives: readonly Buffer[]): Promise<string> {
  const layers = archives.map((bytes) => ({
    blob: { digest: node.addBlob(bytes), mediaType: MEDIA.ociLayer, size: BigInt(bytes.length) },
    diffId: sha256Of(bytes),
  }))
  let top = ''
  for await (const { chainId } of node.unpack.unpack({ snapshotter, layers }, call())) top = chainId
  return top
}

/** One after the other, as a client does that unpacks by itself. */
async function applyAll(node: TestNode, archives: readonly Buffer[]): Promise<string> {
  let parent = ''
  for (const [index, bytes] of archives.entries()) {
    const { mounts } = await node.snapshots.prepare({ snapshotter, key: `key-${index}`, parent }, call())
    await node.diff.apply({ diff: { mediaType: MEDIA.ociLayer, digest: node.addBlob(bytes) }, mounts }, call())
    await node.snapshots.commit({ snapshotter, key: `key-${index}`, name: `applied-${index}` }, call())
    parent = `applied-${index}`
  }
  return parent
}

/** Everything in the mounted snapshot; a folder that nothing describes has the time it was made at. */
async function treeOf(node: TestNode, parent: string): Promise<string[]> {
  const key = `view-${parent}`
  const { mounts } = await node.snapshots.view({ snapshotter, key, parent }, call())
  const point = mkdtempSync(join(tmpdir(), 'gantry-chain-view-'))
  try {
    for (const { type, source, options } of mounts) mount({ type, source, target: point, options })
    return listTree(point, { times: true }).map((line) =>
      UNDESCRIBED.test(line) ? line.replace(/ [0-9]{19}/, '') : line,
    )
  } finally {
    unmount(point)
    rmSync(point, { recursive: true })
    await node.snapshots.remove({ snapshotter, key }, call())
  }
}

async function names(node: TestNode): Promise<string[]> {
  const all: string[] = []
  for await (const { info } of node.snapshots.list({ snapshotter }, call())) all.push(...info.map(({ name }) => name))
  return all
}
