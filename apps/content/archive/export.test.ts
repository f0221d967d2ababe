import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { ImageStoreSchema } from '@gantry/api/containerd/types/transfer/imagestore_pb'
import { type Descriptor, MEDIA } from '@gantry/model/descriptor'
import { parseNamespace } from '@gantry/model/namespace'
import { type Platform, parsePlatform } from '@gantry/model/platform'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { ImageRecord, Images } from '../images.ts'
import { createProgress } from '../pull/progress.ts'
import { createLayout, inPieces, type TestEntry, tarOf } from '../testing/archive.ts'
import { playImages } from '../testing/images.ts'
import { openTestParts, type TestParts } from '../testing/parts.ts'
import { noUnpacker } from '../testing/unpacker.ts'
import { readEntries } from './entries.ts'
import { createExport, type ExportRequest } from './export.ts'
import { createImport } from './import.ts'
import { descriptorJson } from './oci-json.ts'
import { writeTar } from './write-tar.ts'

const NS = parseNamespace('default')
const HOLDER = { namespace: NS, lease: undefined }
const signal = AbortSignal.timeout(120_000)
let parts: TestParts
let images: Images
let records: Map<string, ImageRecord>

beforeEach(async () => {
  parts = await openTestParts()
  ;({ images, records } = playImages())
})
afterEach(() => parts[Symbol.asyncDispose]())

async function load(entries: readonly TestEntry[] | Buffer, platforms: Platform[] = []) {
  const bytes = inPieces(Buffer.isBuffer(entries) ? entries : await tarOf(entries))
  const extraReferences = [{ name: 'x.io/app', isPrefix: true, allowOverwrite: true }]
  const store = create(ImageStoreSchema, { extraReferences })
  await using progress = createProgress(undefined)
  const request = { bytes, mediaType: '', compress: false, store, platforms }
  await createImport({ ...parts, images, unpacker: noUnpacker, verify: async () => undefined })(request, HOLDER, {
    progress,
    signal,
  })
}

async function save(store: MessageInitShape<typeof ImageStoreSchema>, more: Partial<ExportRequest> = {}) {
  await using progress = createProgress(undefined)
  const request = {
    store: create(ImageStoreSchema, store),
    platforms: [],
    allPlatforms: false,
    skipManifest: false,
    skipNonDistributable: false,
    ...more,
  }
  const run = createExport({ ...parts, images })
  return Buffer.concat(await Array.fromAsync(run(request, HOLDER, { progress, signal }), (chunk) => Buffer.from(chunk)))
}

async function contents(archive: Buffer): Promise<Map<string, Buffer>> {
  const files = new Map<string, Buffer>()
  for await (const { name, body } of readEntries(inPieces(archive), AbortSignal.timeout(20_000)))
    files.set(name, Buffer.concat(await Array.fromAsync(body)))
  return files
}
const json = (files: Map<string, Buffer>, name: string) => JSON.parse(String(files.get(name)))
const tagged = (image: Descriptor, tag: string) => ({
  ...image,
  annotations: { 'org.opencontainers.image.ref.name': tag },
})
const pathOf = ({ digest }: Descriptor) => `blobs/${digest.replace(':', '/')}`

test('an archive is an OCI layout and a Docker archive, in order, the same each time', async () => {
  const layout = createLayout()
  const image = layout.image(['one', Buffer.alloc(700_000, 3)])
  await load(layout.entries([tagged(image, 'v1')]))
  await parts.blobs.relabel(NS, image.digest, (old) => ({ ...old, 'containerd.io/distribution.source.x.io': 'a,b' }))

  const archive = await save({ name: 'x.io/app:v1' })

  const files = await contents(archive)
  expect([...files.keys()]).toEqual([...files.keys()].sort())
  expect(files.get('oci-layout')?.toString()).toBe('{"imageLayoutVersion":"1.0.0"}')
  expect(json(files, 'index.json').manifests).toMatchObject([
    {
      mediaType: MEDIA.ociManifest,
      digest: image.digest,
      size: Number(image.size),
      annotations: {
        'containerd.io/distribution.source.x.io': 'a,b',
        'io.containerd.image.name': 'x.io/app:v1',
        'org.opencontainers.image.ref.name': 'v1',
      },
    },
  ])
  const { config, layers } = JSON.parse(String(files.get(pathOf(image))))
  expect(json(files, 'manifest.json')).toEqual([
    { Config: pathOf(config), RepoTags: ['x.io/app:v1'], Layers: layers.map(pathOf) },
  ])
  expect(Buffer.compare(await save({ name: 'x.io/app:v1' }), archive)).toBe(0)
})

test('what was exported is imported as it was, into another place too', async () => {
  const layout = createLayout()
  const [one, two] = [layout.image(['one']), layout.image(['two'])]
  await load(layout.entries([tagged(one, 'v1'), tagged(two, 'v2')]))
  const archive = await save({ name: 'x.io/app:v1', extraReferences: [{ name: 'x.io/app:v2' }] })
  await parts[Symbol.asyncDispose]()
  parts = await openTestParts()
  records.clear()

  await load(archive)

  expect([...records.values()].map(({ name, target }) => [name, target.digest])).toEqual([
    ['x.io/app:v1', one.digest],
    ['x.io/app:v2', two.digest],
  ])
  expect(Buffer.compare(await save({ name: 'x.io/app:v1', extraReferences: [{ name: 'x.io/app:v2' }] }), archive)).toBe(
    0,
  )
})

test('of an image for several platforms go those that are wanted, the one of the host unless told', async () => {
  const layout = createLayout()
  const mine = layout.image(['mine'])
  const other = layout.image(['other'], parsePlatform('linux/s390x'))
  const index = layout.index([mine, other])
  await load(layout.entries([tagged(index, 'v1')]))
  const has = async (more: Partial<ExportRequest>) => {
    const files = await contents(await save({ name: 'x.io/app:v1' }, more))
    return [index, mine, other].map((one) => files.has(pathOf(one)))
  }

  expect(await has({})).toEqual([true, true, false])
  expect(await has({ platforms: [parsePlatform('linux/s390x')] })).toEqual([true, false, true])
  expect(await has({ allPlatforms: true })).toEqual([true, true, true])
  await expect(has({ platforms: [parsePlatform('linux/ppc64le')] })).rejects.toMatchObject({ code: 'not-found' })
})

test('layers that may not be handed on are left out when asked', async () => {
  const layout = createLayout()
  const foreign = layout.put(MEDIA.dockerForeignLayerGzip, 'foreign')
  const config = layout.put(MEDIA.dockerConfig, { os: 'linux', architecture: 'amd64', rootfs: { diff_ids: [] } })
  const manifest = layout.put(MEDIA.dockerManifest, {
    schemaVersion: 2,
    mediaType: MEDIA.dockerManifest,
    config: descriptorJson(config),
    layers: [descriptorJson(foreign)],
  })
  await load(layout.entries([tagged(manifest, 'v1')]))
  const has = async (skipNonDistributable: boolean) =>
    (await contents(await save({ name: 'x.io/app:v1' }, { skipNonDistributable, skipManifest: true }))).has(
      pathOf(foreign),
    )

  expect([await has(false), await has(true)]).toEqual([true, false])
})

test.each<[string, MessageInitShape<typeof ImageStoreSchema>, string]>([
  ['an unknown image', { name: 'nope' }, 'not found'],
  ['a prefix', { extraReferences: [{ name: 'x', isPrefix: true }] }, 'Cannot export by a prefix'],
  ['no name', {}, 'no image is named'],
])('%s is refused', async (_, store, message) => {
  await expect(save(store)).rejects.toThrow(message)
})

test('a part that is gone is said to be not found, before a byte is sent', async () => {
  const layout = createLayout()
  await load(layout.entries([tagged(layout.image(['one']), 'v1')]))
  const layer = [...parts.blobs.list(NS, [])].find(({ size }) => size === 3n)
  await parts.blobs.remove(HOLDER, layer?.digest as never)

  await expect(save({ name: 'x.io/app:v1' })).rejects.toMatchObject({ code: 'not-found' })
})

test('a file of many chunks comes as it is, and one that is not as long as it should is said so', async () => {
  const bytes = randomBytes(3_000_000)
  const path = join(parts.root, 'large')
  await writeFile(path, bytes)
  const entry = { name: 'large', kind: 'file' as const, path, size: BigInt(bytes.length) }
  const tar = Buffer.concat(await Array.fromAsync(writeTar([entry], signal), (chunk) => Buffer.from(chunk)))

  expect((await contents(tar)).get('large')?.equals(bytes)).toBe(true)
  for (const size of [2_999_999n, 3_000_001n])
    await expect(Array.fromAsync(writeTar([{ ...entry, size }], signal))).rejects.toMatchObject({ code: 'data-loss' })
})

test('whoever reads only the beginning leaves nothing open', async () => {
  const layout = createLayout()
  await load(layout.entries([tagged(layout.image([Buffer.alloc(5_000_000, 1)]), 'v1')]))
  await using progress = createProgress(undefined)
  const request = { store: create(ImageStoreSchema, { name: 'x.io/app:v1' }), platforms: [], allPlatforms: false }
  const run = createExport({ ...parts, images })

  for await (const _ of run({ ...request, skipManifest: false, skipNonDistributable: false }, HOLDER, {
    progress,
    signal,
  }))
    break

  expect(parts.leases.held.size).toBe(1)
})
