import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { Kind, Snapshots } from '@gantry/api/containerd/services/snapshots/v1/snapshots_pb'
import { Phase } from '@gantry/api/gantry/snapshots/v1/unpack_pb'
import { chainIds } from '@gantry/model/chain-id'
import { MEDIA } from '@gantry/model/descriptor'
import { type Digest, sha256Of } from '@gantry/model/digest'
import { Fault } from '@gantry/model/fault'
import { listen } from '@gantry/rpc/server'
import { bind, unimplemented } from '@gantry/rpc/service'
import { describe, expect, test, vi } from 'vitest'
import { archive, file } from './testing/archive.ts'
import { startNode, type TestNode } from './testing/node.ts'

/** On a busy machine. */
const SOON = { timeout: 30_000 }

const call = { signal: new AbortController().signal, namespace: 'test', lease: 'keep' }
const plain = [archive(file('a', 'one'), file('gone')), archive(file('b', 'two'), file('.wh.gone'))]
const diffIds = plain.map(sha256Of)
const chain = chainIds(diffIds)

function layersOf(node: TestNode, promised: readonly Digest[] = diffIds) {
  return plain.map((bytes, index) => ({
    blob: { digest: node.addBlob(gzipSync(bytes)), mediaType: MEDIA.ociLayerGzip, size: 1n },
    diffId: promised[index] ?? '',
  }))
}

async function unpack(node: TestNode, layers = layersOf(node), snapshotter = 'native', origin = {}) {
  const progress: [number, Phase, string][] = []
  for await (const { layer, phase, chainId } of node.unpack.unpack({ ...origin, snapshotter, layers }, call))
    progress.push([layer, phase, chainId])
  return progress
}

/** Names in the trees that are there. */
const trees = (node: TestNode) => {
  const root = join(node.root, '..', 'native')
  return readdirSync(root).map((id) => readdirSync(join(root, id, 'fs')).sort())
}

describe.skipIf(process.getuid?.() !== 0)(
  'unpacking layer upon layer (skipped without root: it extracts)',
  { timeout: 60_000 },
  () => {
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
      const { info } = await node.snapshots.stat({ snapshotter: 'native', key: chain[1] ?? '' }, call)
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
      await vi.waitFor(() => expect(trees(node)).toEqual([['a', 'gone']]), SOON)
    })

    test('a layer that is still on its way is waited for, and given up with it', async () => {
      await using node = await startNode()
      const [first = Buffer.of(), second = Buffer.of()] = plain.map((bytes) => gzipSync(bytes))
      const [slow, lost] = [node.growBlob(first), node.growBlob(second)]
      const layers = [slow, lost].map(({ digest }, index) => ({
        blob: { digest, mediaType: MEDIA.ociLayerGzip, size: 1n },
        diffId: diffIds[index] ?? '',
      }))

      const unpacking = unpack(node, layers)
      unpacking.catch(() => undefined)
      await vi.waitFor(() => expect(trees(node)).toEqual([[]]), SOON)
      slow.grow(first)
      slow.finish()
      await vi.waitFor(
        () =>
          expect(trees(node)).toEqual([
            ['a', 'gone'],
            ['a', 'gone'],
          ]),
        SOON,
      )
      lost.fail()

      await expect(unpacking).rejects.toMatchObject({ code: expect.stringMatching(/^(aborted|not-found)$/) })
      await vi.waitFor(() => expect(trees(node)).toEqual([['a', 'gone']]), SOON)
    })

    test('with the snapshots of another process its folders are extracted to, and it has the layers then', async () => {
      await using other = await startNode()
      await using node = await startNode(undefined, [], other.address)

      const progress = await unpack(node, layersOf(node), 'far')

      expect(progress.at(-1)).toEqual([1, Phase.EXTRACTED, chain[1]])
      expect(readdirSync(join(other.root, '2', 'fs')).sort()).toEqual(['b', 'gone']) // one is a mark of the overlay
      const names: string[] = []
      for await (const { info } of other.snapshots.list({ snapshotter: 'gantry' }, call))
        names.push(...info.map(({ name }) => name))
      expect(names.sort()).toEqual(chain.map((id, index) => `test/${index + 1}/${id}`))
      expect(await unpack(node, layersOf(node), 'far')).toEqual(chain.map((id, layer) => [layer, Phase.EXISTS, id]))
    })

    test('layers that a remote brings by itself are not extracted, and are snapshots from then on', async () => {
      await using remote = await lazyRemote()
      await using node = await startNode(undefined, [], remote.address)
      const layers = chain.map((_, index) => ({
        blob: {
          ...{ digest: sha256Of(Buffer.from('never fetched')), mediaType: MEDIA.ociLayerGzip, size: 1n },
          annotations: index === 1 ? ANNOTATIONS : {},
        },
        diffId: diffIds[index] ?? '',
      }))

      const progress = await unpack(node, layers, 'far', { reference: 'host/repo:tag', manifest: 'sha256:m' })

      expect(progress.filter(([, phase]) => phase !== Phase.EXTRACTING)).toEqual(
        chain.map((id, layer) => [layer, Phase.EXISTS, id]),
      )
      const { info } = await node.snapshots.stat({ snapshotter: 'far', key: chain[1] ?? '' }, call)
      expect(info).toMatchObject({ kind: Kind.COMMITTED, parent: chain[0] })
      expect(remote.parents).toEqual(['', `lazy ${chain[0]}`])
      const digest = layers[0]?.blob.digest
      const hints = (labels: object, ...above: unknown[]) => ({
        ...labels,
        'containerd.io/snapshot/cri.image-ref': 'host/repo:tag',
        'containerd.io/snapshot/cri.manifest-digest': 'sha256:m',
        'containerd.io/snapshot/cri.layer-digest': digest,
        'containerd.io/snapshot/cri.image-layers': [digest, ...above].join(),
      })
      expect(remote.labels).toMatchObject([
        hints({ 'containerd.io/snapshot/diff-id': diffIds[0] }, digest),
        hints({
          'containerd.io/snapshot/diff-id': diffIds[1],
          'containerd.io/snapshot/stargz/toc.digest': 'sha256:toc',
        }),
      ])
      for (const labels of remote.labels) expect(Object.keys(labels).join()).not.toMatch(/mapping|big|elsewhere/)
      expect(await node.snapshots.usage({ snapshotter: 'far', key: chain[1] ?? '' }, call)).toMatchObject({ size: 7n })
      for (const id of chain) expect(node.heard).toContain(`lease keep: snapshots/far ${id}`)
    })
  },
)

/** What an image says of a layer, some of which is not for it to say. */
const ANNOTATIONS = {
  'containerd.io/snapshot/stargz/toc.digest': 'sha256:toc',
  'containerd.io/snapshot/diff-id': 'sha256:another',
  'containerd.io/snapshot/uidmapping': '0:0:1',
  'containerd.io/snapshot/gidmapping': '0:0:1',
  'containerd.io/snapshot/big': 'x'.repeat(4096),
  elsewhere: 'x',
}

/** A snapshotter that has every layer that is asked for by its target label, under a name of its own. */
async function lazyRemote() {
  const base = mkdtempSync(join(tmpdir(), 'gantry-lazy-'))
  const have: { name: string; parent: string; labels: Record<string, string> }[] = []
  const no = unimplemented('this')
  const service = bind(Snapshots, {
    async prepare({ parent, labels }) {
      have.push({ name: `lazy ${labels['containerd.io/snapshot.ref']}`, parent, labels })
      throw new Fault('already-exists', 'It is here')
    },
    async *list() {
      yield { info: have.map((each) => ({ ...each, kind: Kind.COMMITTED })) }
    },
    usage: async () => ({ size: 7n, inodes: 1n }),
    view: no,
    mounts: no,
    commit: no,
    remove: no,
    stat: no,
    update: no,
    cleanup: no,
  })
  const address = join(base, 'lazy.sock')
  const server = await listen({ address, bindings: [service], log: { error() {}, debug() {} } })
  return {
    address,
    get parents() {
      return have.map(({ parent }) => parent)
    },
    get labels() {
      return have.map(({ labels }) => labels)
    },
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]()
      rmSync(base, { recursive: true })
    },
  }
}
