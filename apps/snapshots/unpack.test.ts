import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { Phase } from '@gantry/api/gantry/snapshots/v1/unpack_pb'
import { chainIds } from '@gantry/model/chain-id'
import { MEDIA } from '@gantry/model/descriptor'
import { type Digest, sha256Of } from '@gantry/model/digest'
import { describe, expect, test, vi } from 'vitest'
import { archive, file, folder } from './testing/archive.ts'
import { startNode, type TestNode } from './testing/node.ts'

const call = { signal: new AbortController().signal, namespace: 'test', lease: 'keep' }
const snapshotter = 'overlayfs'
const fault = (code: string) => expect.objectContaining({ name: 'Fault', code })

const plain = [
  archive(folder('etc', { mode: 0o750 }), file('etc/passwd', 'root'), file('gone')),
  archive(file('etc/group', 'wheel'), file('.wh.gone')),
  archive(file('top', 'x')),
]
const diffIds = plain.map(sha256Of)
const chain = chainIds(diffIds)

type Layers = { blob: { digest: string; mediaType: string; size: bigint }; diffId: string }[]

/** The layers of an image, each compressed in another way. */
function layersOf(node: TestNode, promised: readonly Digest[] = diffIds): Layers {
  const blobs = plain.map((bytes, index) =>
    node.addBlob(index === 0 ? gzipSync(bytes) : index === 1 ? zstdCompressSync(bytes) : bytes),
  )
  const types = [MEDIA.dockerLayerGzip, MEDIA.ociLayerZstd, MEDIA.ociLayer]
  return blobs.map((digest: string, index) => ({
    blob: { digest, mediaType: types[index] ?? '', size: 1n },
    diffId: promised[index] ?? '',
  }))
}

async function unpack(node: TestNode, layers: Layers, signal = call.signal) {
  const progress: [number, Phase, string][] = []
  for await (const { layer, phase, chainId } of node.unpack.unpack({ snapshotter, layers }, { ...call, signal }))
    progress.push([layer, phase, chainId])
  return progress
}

const names = async (node: TestNode) => {
  const all: string[] = []
  for await (const { info } of node.snapshots.list({ snapshotter }, call)) all.push(...info.map(({ name }) => name))
  return all.sort()
}

describe.skipIf(process.getuid?.() !== 0)('unpacking (skipped without root: it extracts)', () => {
  test('a chain of layers becomes committed snapshots named by their chain IDs', async () => {
    await using node = await startNode()

    const progress = await unpack(node, layersOf(node))

    expect(progress).toEqual([
      ...chain.map((id, layer) => [layer, Phase.EXTRACTING, id]),
      ...chain.map((id, layer) => [layer, Phase.EXTRACTED, id]),
    ])
    expect(await names(node)).toEqual([...chain].sort())
    const top = chain.at(-1) ?? ''
    const { info } = await node.snapshots.stat({ snapshotter, key: top }, call)
    expect(info).toMatchObject({ parent: chain[1], labels: { 'containerd.io/snapshot.ref': top } })
    expect(await node.snapshots.usage({ snapshotter, key: top }, call)).toMatchObject({ inodes: 2n })
    expect(readFileSync(join(node.root, '2', 'fs', 'etc', 'group'), 'utf8')).toBe('wheel')
    for (const id of chain) expect(node.heard).toContain(`lease keep: snapshots/overlayfs ${id}`)
  })

  test('what is there is skipped, and held by the lease', async () => {
    await using node = await startNode()
    await unpack(node, layersOf(node))
    node.heard.length = 0

    expect(await unpack(node, layersOf(node))).toEqual(chain.map((id, layer) => [layer, Phase.EXISTS, id]))
    expect(node.heard).toEqual(chain.map((id) => `lease keep: snapshots/overlayfs ${id}`))
  })

  test('labels for id mapping that come from annotations of an image are ignored', async () => {
    await using node = await startNode()
    const annotations = { 'containerd.io/snapshot/uidmapping': '0:0:1', 'containerd.io/snapshot/x': 'y' }
    const layers = layersOf(node).map((layer) => ({ ...layer, blob: { ...layer.blob, annotations } }))

    await unpack(node, layers)

    const { info } = await node.snapshots.stat({ snapshotter, key: chain[0] ?? '' }, call)
    expect(Object.keys(info?.labels ?? {}).sort()).toEqual([
      'containerd.io/snapshot.ref',
      'containerd.io/snapshot/diff-id',
    ])
  })

  test('those who unpack the same at once work on each layer once', async () => {
    await using node = await startNode()
    const layers = layersOf(node)

    const all = await Promise.all(Array.from({ length: 5 }, () => unpack(node, layers)))

    expect(all.flat().filter(([, phase]) => phase === Phase.EXTRACTED)).toHaveLength(3)
    for (const progress of all) expect(progress.at(-1)?.[2]).toBe(chain.at(-1))
    expect(node.heard.filter((line) => line.startsWith('/snapshot/prepare'))).toHaveLength(3)
  })

  test('bytes that are not what the image promises leave nothing behind', async () => {
    await using node = await startNode()
    const promised = [...diffIds.slice(0, 2), sha256Of('something else')]

    await expect(unpack(node, layersOf(node, promised))).rejects.toThrow(fault('failed-precondition'))

    expect(await names(node)).toEqual(chain.slice(0, 2).sort())
    await vi.waitFor(() => expect(readdirSync(node.root)).toHaveLength(2), 10_000)
  })

  test('a blob that is not there, or of another type, leaves nothing behind', async () => {
    await using node = await startNode()
    const [layer] = layersOf(node)
    const absent = {
      blob: { digest: sha256Of('absent'), mediaType: MEDIA.ociLayerGzip, size: 1n },
      diffId: sha256Of('x'),
    }
    const foreign = {
      blob: { digest: layer?.blob.digest ?? '', mediaType: 'application/x-other', size: 1n },
      diffId: sha256Of('x'),
    }

    await expect(unpack(node, [absent])).rejects.toThrow(fault('not-found'))
    await expect(unpack(node, [foreign])).rejects.toThrow(fault('unknown'))
    expect(await names(node)).toEqual([])
  })

  test('a caller who gives up leaves nothing behind', async () => {
    await using node = await startNode()
    const bytes = archive(file('half', Buffer.alloc(2_000_000)))
    const blob = node.growBlob(bytes)
    const layer = { blob: { digest: blob.digest, mediaType: MEDIA.ociLayer, size: 1n }, diffId: sha256Of(bytes) }
    const abort = new AbortController()
    const unpacking = unpack(node, [layer], abort.signal)
    blob.grow(bytes.subarray(0, 1_000_000))
    await vi.waitFor(() => expect(readdirSync(join(node.root, '1', 'fs'))).toEqual(['half']), 10_000)

    abort.abort()

    await expect(unpacking).rejects.toThrow(fault('cancelled'))
    await vi.waitFor(async () => expect(await names(node)).toEqual([]), 10_000)
    await vi.waitFor(() => expect(readdirSync(node.root)).toEqual([]), 10_000)
  })
})

describe.skipIf(process.getuid?.() !== 0)('the Diff service (skipped without root: it extracts and mounts)', () => {
  const type = { mediaType: MEDIA.ociLayerGzip }

  test.each(['overlay', 'bind', 'any mount'])('a layer is applied to %s', async (way) => {
    await using node = await startNode()
    const { snapshots, diff, root } = node
    await snapshots.prepare({ snapshotter, key: 'a' }, call)
    let { mounts } = await snapshots.mounts({ snapshotter, key: 'a' }, call)
    await diff.apply({ diff: { ...type, digest: node.addBlob(gzipSync(plain[0] ?? '')) }, mounts }, call)
    if (way !== 'bind') {
      await snapshots.commit({ snapshotter, key: 'a', name: 'base' }, call)
      mounts = (await snapshots.prepare({ snapshotter, key: 'b', parent: 'base' }, call)).mounts
    }
    if (way === 'any mount') mounts = mounts.map((each) => ({ ...each, target: '/' }))

    const { applied } = await diff.apply(
      { diff: { ...type, digest: node.addBlob(gzipSync(plain[1] ?? '')) }, mounts, syncFs: true },
      call,
    )

    expect(applied).toMatchObject({
      mediaType: MEDIA.ociLayer,
      digest: diffIds[1],
      size: BigInt(plain[1]?.length ?? 0),
    })
    const seen = readdirSync(join(root, way === 'bind' ? '1' : '2', 'fs'), { recursive: true })
      .map(String)
      .sort()
    expect(seen).toEqual(way === 'bind' ? ['etc', 'etc/group', 'etc/passwd'] : ['etc', 'etc/group', 'gone'])
  })

  test('a call with no mounts, no blob, a bad digest or mounts that fail says so', async () => {
    await using node = await startNode()
    const digest = node.addBlob(gzipSync(plain[0] ?? ''))
    const apply = (descriptor: object, mounts: object[] = []) =>
      node.diff.apply({ diff: { ...type, ...descriptor }, mounts }, call)
    const bad = { type: 'bind', source: '/nowhere/at/all', options: ['rbind'] }

    await expect(apply({ digest })).rejects.toThrow(fault('invalid-argument'))
    await expect(apply({ digest: 'md5:1' })).rejects.toThrow(fault('invalid-argument'))
    await expect(apply({ digest: sha256Of('absent') }, [bad])).rejects.toThrow(fault('not-found'))
    await expect(apply({ digest }, [bad])).rejects.toThrow(fault('failed-precondition'))
    const nul = { ...bad, source: `${node.root}\0` }
    await expect(apply({ digest }, [nul])).rejects.toThrow(fault('invalid-argument'))
    for (const sides of [{ left: [nul] }, { right: [nul] }])
      await expect(node.diff.diff(sides, call)).rejects.toThrow(fault('invalid-argument'))
    await expect(apply({ digest }, [{ type: 'overlay', options: ['upperdir=/nowhere/at/all'] }])).rejects.toThrow(
      fault('failed-precondition'),
    )
  })
})
