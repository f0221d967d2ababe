import { create, fromBinary } from '@bufbuild/protobuf'
import { ImageStoreSchema } from '@gantry/api/containerd/types/transfer/imagestore_pb'
import { ProgressSchema } from '@gantry/api/containerd/types/transfer/progress_pb'
import type { Descriptor } from '@gantry/model/descriptor'
import { parseNamespace } from '@gantry/model/namespace'
import { hostPlatform, parsePlatform } from '@gantry/model/platform'
import { parseReference } from '@gantry/model/reference'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createImport } from '../archive/import.ts'
import type { Images } from '../images.ts'
import { createProgress } from '../pull/progress.ts'
import type { BlobUpload, ManifestUpload, Pusher } from '../registry/push.ts'
import { createLayout, inPieces, tarOf } from '../testing/archive.ts'
import { playImages } from '../testing/images.ts'
import { openTestParts, type TestParts } from '../testing/parts.ts'
import { noUnpacker } from '../testing/unpacker.ts'
import { createPush } from './push.ts'

const NS = parseNamespace('default')
const HOLDER = { namespace: NS, lease: undefined }
const signal = AbortSignal.timeout(120_000)
let parts: TestParts
let images: Images

beforeEach(async () => {
  parts = await openTestParts()
  images = playImages().images
})
afterEach(() => parts[Symbol.asyncDispose]())

async function load(layout: ReturnType<typeof createLayout>, image: Descriptor) {
  const store = create(ImageStoreSchema, { name: 'all', extraReferences: [{ name: 'app', isPrefix: true }] })
  await using progress = createProgress(undefined)
  const annotations = { 'org.opencontainers.image.ref.name': '1' }
  const bytes = inPieces(await tarOf(layout.entries([{ ...image, annotations }])))
  const request = { bytes, mediaType: '', compress: false, store, platforms: [] }
  await createImport({ ...parts, images, unpacker: noUnpacker, verify: async () => undefined })(request, HOLDER, {
    progress,
    signal,
  })
}

/** A registry that takes everything down, and is slow enough to be overtaken. */
function createRegistry() {
  const taken: string[] = []
  const tags = new Map<string, string>()
  const mounts = new Map<string, readonly string[]>()
  let [running, most] = [0, 0]
  const push: Pusher = {
    async blob(_, { descriptor, body, mountFrom, onProgress }: BlobUpload) {
      most = Math.max(most, ++running)
      mounts.set(descriptor.digest, mountFrom)
      let sent = 0n
      for await (const chunk of body()) {
        sent += BigInt(chunk.length)
        onProgress(sent)
      }
      expect(sent).toBe(descriptor.size)
      await new Promise((resolve) => setTimeout(resolve, 5))
      taken.push(descriptor.digest)
      running--
      return 'complete'
    },
    async manifest(_, { descriptor, bytes, tag }: ManifestUpload) {
      expect(BigInt(bytes.length)).toBe(descriptor.size)
      taken.push(descriptor.digest)
      if (tag !== undefined) tags.set(tag, descriptor.digest)
      return 'complete'
    },
  }
  return { push, taken, tags, mounts, most: () => most }
}

async function push(registry: ReturnType<typeof createRegistry>, reference: string, platforms = [] as string[]) {
  const lines: string[] = []
  {
    await using progress = createProgress(async ({ value }) => {
      const { event, name } = fromBinary(ProgressSchema, value)
      lines.push(name === '' ? event : `${name.replace(/-.*@?sha256:.*/, '')}: ${event}`)
    })
    const run = createPush({ registry, blobs: parts.blobs, leases: parts.leases, images, uploads: 2 })
    const to = { reference: parseReference(reference), defaultScheme: '', headers: {} }
    const request = { name: 'app:1', to, platforms: platforms.map(parsePlatform) }
    await run(request as never, HOLDER, { progress, signal })
  }
  return lines
}

test('children go first, the index last, and only the index gets the tag', async () => {
  const layout = createLayout()
  const [mine, other] = [layout.image(['a', 'b', 'c']), layout.image(['d'], parsePlatform('linux/s390x'))]
  const index = layout.index([mine, other])
  await load(layout, index)
  const registry = createRegistry()

  const lines = await push(registry, 'x.io/team/app:1')

  expect(registry.taken).toHaveLength(9)
  expect(registry.taken.slice(-3, -1).sort()).toEqual([mine.digest, other.digest].sort()) // side by side
  expect(registry.taken.at(-1)).toBe(index.digest)
  expect(registry.tags).toEqual(new Map([['1', index.digest]]))
  expect(registry.most()).toBe(2)
  expect(lines[0]).toBe('Pushing to x.io/team/app:1')
  expect(lines).toContain('x.io/team/app:1: pushing content')
  expect(lines).toContain('layer: complete')
  expect(lines.slice(-2)).toEqual(['x.io/team/app:1: pushed content', 'Completed push to x.io/team/app:1'])
})

test('a digest beside the tag says which manifest gets it', async () => {
  const layout = createLayout()
  const [mine, other] = [layout.image(['a']), layout.image(['b'], parsePlatform('linux/s390x'))]
  await load(layout, layout.index([mine, other]))
  const registry = createRegistry()

  await push(registry, `x.io/team/app:1@${other.digest}`)
  expect(registry.tags).toEqual(new Map([['1', other.digest]]))

  const nothing = `sha256:${'0'.repeat(64)}`
  await expect(push(registry, `x.io/team/app:1@${nothing}`)).rejects.toMatchObject({ code: 'invalid-argument' })
})

test('of an index go the platforms that are wanted', async () => {
  const layout = createLayout()
  const [mine, other] = [layout.image(['a']), layout.image(['b'], parsePlatform('linux/s390x'))]
  await load(layout, layout.index([mine, other]))
  const registry = createRegistry()
  const { os, architecture } = hostPlatform()

  await push(registry, 'x.io/team/app:1', [`${os}/${architecture}`])

  expect(registry.taken).toContain(mine.digest)
  expect(registry.taken).not.toContain(other.digest)
})

test('repositories of the same registry that have a blob are named, the nearest first', async () => {
  const layout = createLayout()
  await load(layout, layout.image(['a']))
  for (const { digest } of [...parts.blobs.list(NS, [])])
    await parts.blobs.relabel(NS, digest as never, () => ({
      'containerd.io/distribution.source.x.io': 'other/b,team/app,team/lib',
      'containerd.io/distribution.source.y.io': 'team/secret',
    }))
  const registry = createRegistry()

  await push(registry, 'x.io/team/app:1')

  expect([...registry.mounts.values()]).toEqual([
    ['team/lib', 'other/b'],
    ['team/lib', 'other/b'],
  ])
})

test('a failure stops the push before the manifests, and no lease stays', async () => {
  const layout = createLayout()
  await load(layout, layout.image(['a', 'b']))
  const registry = createRegistry()
  registry.push.blob = async () => Promise.reject(new Error('the registry is on fire'))

  await expect(push(registry, 'x.io/team/app:1')).rejects.toThrow('on fire')
  expect(registry.taken).toEqual([])
  expect([...parts.leases.held.keys()]).toEqual(['held'])
})
