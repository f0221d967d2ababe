import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { mount, unmount } from '@gantry/linux/mount'
import { MEDIA } from '@gantry/model/descriptor'
import { sha256Of } from '@gantry/model/digest'
import { describe, expect, test } from 'vitest'
import { archive, file, folder, longName } from './testing/archive.ts'
import { startNode, type TestNode } from './testing/node.ts'

const snapshotter = 'overlayfs'
const call = () => ({ signal: AbortSignal.timeout(60_000), namespace: 'test', lease: 'keep' })

async function unpack(node: TestNode, archives: readonly Buffer[]): Promise<string> {
  const layers = archives.map((bytes) => ({
    blob: { digest: node.addBlob(bytes), mediaType: MEDIA.ociLayer, size: BigInt(bytes.length) },
    diffId: sha256Of(bytes),
  }))
  let top = ''
  for await (const { chainId } of node.unpack.unpack({ snapshotter, layers }, call())) top = chainId
  return top
}

describe.skipIf(process.getuid?.() !== 0)('images at the limits (skipped without root: it extracts)', () => {
  test('128 layers', { timeout: 60_000 }, async () => {
    await using node = await startNode()
    const archives = Array.from({ length: 128 }, (_, index) =>
      archive(folder('d'), file(`d/${index}`, `${index}`), file('same', `${index}`)),
    )

    const top = await unpack(node, archives)

    const { mounts } = await node.snapshots.view({ snapshotter, key: 'look', parent: top }, call())
    const point = mkdtempSync(join(tmpdir(), 'gantry-extremes-'))
    try {
      for (const { type, source, options } of mounts) mount({ type, source, target: point, options })
      expect(readdirSync(join(point, 'd'))).toHaveLength(128)
      expect(readFileSync(join(point, 'same'), 'utf8')).toBe('127')
    } finally {
      unmount(point)
      rmSync(point, { recursive: true })
    }
  })

  test('names of 255 bytes, and a path of 4,000', async () => {
    await using node = await startNode()
    const name = 'n'.repeat(255)
    const path = `${`${'p'.repeat(249)}/`.repeat(15)}${'q'.repeat(250)}`

    await unpack(node, [archive(longName(name), file(name, 'named'), longName(path), file(path, 'deep'))])

    const [root = ''] = readdirSync(node.root)
    const fs = join(node.root, root, 'fs')
    expect(path).toHaveLength(4000)
    expect(readFileSync(join(fs, name), 'utf8')).toBe('named')
    const found = execFileSync('find', ['.', '-type', 'f', '-size', '4c', '-printf', '%P'], { cwd: fs })
    expect(found.toString()).toBe(path)
  })

  test('40 images at once', { timeout: 60_000 }, async () => {
    await using node = await startNode()
    const images = Array.from({ length: 40 }, (_, index) => [
      archive(file('base', `${index % 4}`)),
      archive(file('top', `${index}`)),
    ])

    const tops = await Promise.all(images.map((layers) => unpack(node, layers)))

    expect(new Set(tops).size).toBe(40)
    expect(readdirSync(node.root)).toHaveLength(44)
  })
})
