import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { Phase } from '@gantry/api/gantry/snapshots/v1/unpack_pb'
import { chainIds } from '@gantry/model/chain-id'
import { MEDIA } from '@gantry/model/descriptor'
import { type Digest, sha256Of } from '@gantry/model/digest'
import { describe, expect, test, vi } from 'vitest'
import { archive, file } from './testing/archive.ts'
import { startNode, type TestNode } from './testing/node.ts'

const call = { signal: new AbortController().signal, namespace: 'test', lease: 'keep' }
const snapshotter = 'native'
const plain = [archive(file('a', 'one'), file('gone')), archive(file('b', 'two'), file('.wh.gone'))]
const diffIds = plain.map(sha256Of)
const chain = chainIds(diffIds)

function layersOf(node: TestNode, promised: readonly Digest[] = diffIds) {
  return plain.map((bytes, index) => ({
    blob: { digest: node.addBlob(gzipSync(bytes)), mediaType: MEDIA.ociLayerGzip, size: 1n },
    diffId: promised[index] ?? '',
  }))
}

async function unpack(node: TestNode, layers = layersOf(node)) {
  const progress: [number, Phase, string][] = []
  for await (const { layer, phase, chainId } of node.unpack.unpack({ snapshotter, layers }, call))
    progress.push([layer, phase, chainId])
  return progress
}

/** Names in the trees that are there. */
const trees = (node: TestNode) => {
  const root = join(node.root, '..', 'native')
  return readdirSync(root).map((id) => readdirSync(join(root, id, 'fs')).sort())
}

describe.skipIf(process.getuid?.() !== 0)('unpacking layer upon layer (skipped without root: it extracts)', () => {
  test('each layer is a snapshot on the one below, and is skipped the next time', async () => {
    await using node = await startNode()

    expect(await unpack(node)).toEqual(
      chain.flatMap((id, layer) => [
        [layer, Phase.EXTRACTING, id],
        [layer, Phase.EXTRACTED, id],
      ]),
    )
    expect(trees(node)).toEqual([
      ['a', 'gone'],
      ['a', 'b'],
    ])
    expect(await unpack(node)).toEqual(chain.map((id, layer) => [layer, Phase.EXISTS, id]))
    const { info } = await node.snapshots.stat({ snapshotter, key: chain[1] ?? '' }, call)
    expect(info).toMatchObject({ parent: chain[0], labels: { 'containerd.io/snapshot.ref': chain[1] } })
  })

  test('two at once extract each layer once', async () => {
    await using node = await startNode()

    await Promise.all([unpack(node), unpack(node)])

    expect(trees(node)).toHaveLength(2)
    expect(node.heard.filter((line) => line.startsWith('/snapshot/prepare'))).toHaveLength(2)
  })

  test('a layer that is not what the image promises leaves nothing of itself', async () => {
    await using node = await startNode()
    const wrong = sha256Of(Buffer.from('other'))

    const failing = unpack(node, layersOf(node, [diffIds[0] ?? wrong, wrong]))

    await expect(failing).rejects.toThrow(`the image promises ${wrong}`)
    await vi.waitFor(() => expect(trees(node)).toEqual([['a', 'gone']]))
  })
})
