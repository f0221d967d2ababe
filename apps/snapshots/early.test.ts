import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { chainIds } from '@gantry/model/chain-id'
import { MEDIA } from '@gantry/model/descriptor'
import { sha256Of } from '@gantry/model/digest'
import { describe, expect, test, vi } from 'vitest'
import { archive, file } from './testing/archive.ts'
import { startNode, type TestNode } from './testing/node.ts'

const snapshotter = 'overlayfs'
const call = () => ({ signal: AbortSignal.timeout(60_000), namespace: 'test', lease: 'keep' })
const PLAIN = [noisy('first', 'second'), noisy('third'), noisy('fourth'), noisy('fifth')]
const BLOBS = PLAIN.map((bytes) => gzipSync(bytes, { level: 1 }))
const [FIRST = Buffer.alloc(0)] = BLOBS

/** Files of a megabyte that no codec holds back. */
function noisy(...names: string[]): Buffer {
  const bytes = (name: string) =>
    Buffer.concat(Array.from({ length: 32_768 }, (_, at) => Buffer.from(sha256Of(`${name}${at}`).slice(7), 'hex')))
  return archive(...names.map((name) => file(name, bytes(name))))
}

function layer(index: number) {
  const blob = { digest: sha256Of(BLOBS[index] ?? ''), mediaType: MEDIA.ociLayerGzip, size: 1n }
  return { blob, diffId: sha256Of(PLAIN[index] ?? '') }
}

async function unpack(node: TestNode, ...indexes: number[]): Promise<string> {
  let top = ''
  for await (const { chainId } of node.unpack.unpack({ snapshotter, layers: indexes.map(layer) }, call())) top = chainId
  return top
}

/** The files that were laid out, in whatever folder. */
function laidOut(node: TestNode): string[] {
  return readdirSync(node.root)
    .flatMap((name) => readdirSync(join(node.root, name, 'fs')))
    .sort()
}

async function names(node: TestNode): Promise<string[]> {
  const all: string[] = []
  for await (const { info } of node.snapshots.list({ snapshotter }, call())) all.push(...info.map(({ name }) => name))
  return all
}

describe.skipIf(process.getuid?.() !== 0)('a layer that is on its way (skipped without root: it extracts)', () => {
  test('is laid out as its bytes come, and committed when they are proven', async () => {
    await using node = await startNode()
    const blob = node.growBlob(FIRST)

    const unpacking = unpack(node, 0)
    blob.grow(FIRST.subarray(0, 2))
    blob.grow(FIRST.subarray(0, (FIRST.length * 3) / 4))
    await vi.waitFor(() => expect(laidOut(node)).toEqual(['first', 'second']), 20_000)
    blob.grow(FIRST)
    expect(await names(node)).toEqual([])
    blob.finish()

    expect(await unpacking).toBe(chainIds([layer(0).diffId])[0])
    expect(await names(node)).toEqual([await unpacking])
    const [root = ''] = readdirSync(node.root)
    expect(readFileSync(join(node.root, root, 'fs', 'second'))).toEqual(PLAIN[0]?.subarray(1_049_600, 2_098_176))
  })

  test('is laid out again when its first bytes were others', async () => {
    await using node = await startNode()
    const blob = node.growBlob(FIRST)

    const unpacking = unpack(node, 0)
    const other = gzipSync(archive(file('.wh..wh..opq'), file('other', Buffer.alloc(1_000_000, 'x'))))
    blob.grow(other)
    await vi.waitFor(() => expect(laidOut(node)).toEqual(['other']), 20_000)
    blob.grow(FIRST.subarray(0, 100))
    blob.grow(FIRST)
    blob.finish()

    await unpacking
    expect(laidOut(node)).toEqual(['first', 'second'])
  })

  test('leaves nothing when it does not arrive, or turns out to be bad', async () => {
    await using node = await startNode()
    const lost = node.growBlob(FIRST)
    const cut = node.growBlob(BLOBS[1] ?? FIRST)

    const unpackings = Promise.allSettled([unpack(node, 0), unpack(node, 1)])
    lost.grow(FIRST.subarray(0, FIRST.length / 2))
    cut.grow(FIRST.subarray(0, FIRST.length / 2))
    await vi.waitFor(() => expect(laidOut(node)).toContain('first'), 20_000)
    lost.fail()
    cut.fail()

    const code = (reason: unknown) => (reason as { code: string }).code
    expect((await unpackings).map((each) => (each.status === 'rejected' ? code(each.reason) : each.value))).toEqual([
      'not-found',
      'not-found',
    ])
    expect(await names(node)).toEqual([])
    await vi.waitFor(() => expect(readdirSync(node.root)).toEqual([]), 10_000)
  })

  test('holds up nobody whose blobs are there', async () => {
    await using node = await startNode()
    const slow = BLOBS.slice(0, 3).map(node.growBlob)
    const give = new AbortController()
    const waiting = slow.map(async (blob, index) => {
      blob.grow((BLOBS[index] ?? FIRST).subarray(0, 1000))
      const stream = node.unpack.unpack({ snapshotter, layers: [layer(index)] }, { ...call(), signal: give.signal })
      for await (const _ of stream);
    })
    const ended = Promise.allSettled(waiting)
    await vi.waitFor(() => expect(readdirSync(node.root)).toHaveLength(3), 20_000)

    node.addBlob(BLOBS[3] ?? FIRST)
    await unpack(node, 3)

    give.abort()
    await ended
    expect(await names(node)).toHaveLength(1)
    await vi.waitFor(() => expect(readdirSync(node.root)).toHaveLength(1), 10_000)
  })
})
