import { gzipSync, zstdCompressSync } from 'node:zlib'
import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { InfoSchema } from '@gantry/api/containerd/services/content/v1/content_pb'
import { ImageStoreSchema } from '@gantry/api/containerd/types/transfer/imagestore_pb'
import { MEDIA } from '@gantry/model/descriptor'
import { parseDigest, sha256Of } from '@gantry/model/digest'
import { Fault } from '@gantry/model/fault'
import { parseIndex, parseManifest } from '@gantry/model/manifest'
import { parseNamespace } from '@gantry/model/namespace'
import { hostPlatform, normalizePlatform, parsePlatform } from '@gantry/model/platform'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { ImageRecord } from '../images.ts'
import { createProgress } from '../pull/progress.ts'
import { createLayout, inPieces, type TestEntry, tarOf } from '../testing/archive.ts'
import { openTestParts, type TestParts } from '../testing/parts.ts'
import { noUnpacker } from '../testing/unpacker.ts'
import type { VerifyImage } from '../verify/verify-image.ts'
import { createImport } from './import.ts'
import { descriptorJson } from './oci-json.ts'
import { readStored } from './walk-stored.ts'

const NS = parseNamespace('default')
const signal = AbortSignal.timeout(120_000)
const ANY = { name: 'import', isPrefix: true, allowOverwrite: true }
let parts: TestParts
let records: ImageRecord[]

beforeEach(async () => {
  parts = await openTestParts()
  records = []
})
afterEach(() => parts[Symbol.asyncDispose]())

async function load(
  bytes: Uint8Array,
  store: MessageInitShape<typeof ImageStoreSchema> = { extraReferences: [ANY] },
  more: { mediaType?: string; compress?: boolean; verify?: VerifyImage } = {},
) {
  const run = createImport({
    ...parts,
    images: {
      target: async () => Promise.reject(new Error('unused')),
      put: async (_, record) => void records.push(record),
    },
    unpacker: noUnpacker,
    verify: more.verify ?? (async () => undefined),
  })
  await using progress = createProgress(undefined)
  const message = create(ImageStoreSchema, store)
  await run(
    {
      bytes: inPieces(bytes),
      mediaType: more.mediaType ?? '',
      compress: more.compress ?? false,
      store: message,
      platforms: message.platforms.map(normalizePlatform),
    },
    { namespace: NS, lease: undefined },
    { progress, signal },
  )
}

const names = () => records.map(({ name }) => name)
const ingestsLeft = async () => (await Array.fromAsync(parts.ingests.list(NS))).length
const tagged = (tag: string) => ({ annotations: { 'org.opencontainers.image.ref.name': tag } })
const manifestOf = (record: ImageRecord | undefined) => {
  if (!record) throw new Error('no record')
  return readStored(record.target, { namespace: NS, blobs: parts.blobs }, parseManifest)
}

test.each([
  ['plain', (tar: Buffer) => tar],
  ['gzip', (tar: Buffer) => gzipSync(tar)],
  [
    'gzip in two members',
    (tar: Buffer) => Buffer.concat([gzipSync(tar.subarray(0, 700)), gzipSync(tar.subarray(700))]),
  ],
  ['zstd', (tar: Buffer) => zstdCompressSync(tar)],
  [
    'zstd in two frames',
    (tar: Buffer) => Buffer.concat([zstdCompressSync(tar.subarray(0, 700)), zstdCompressSync(tar.subarray(700))]),
  ],
])('an OCI layout comes in, %s', async (_, codec) => {
  const layout = createLayout()
  const image = layout.image(['one', 'two'])

  await load(codec(await tarOf(layout.entries([{ ...image, ...tagged('v1') }]))))

  expect(records).toMatchObject([{ name: 'import:v1', target: { digest: image.digest, mediaType: MEDIA.ociManifest } }])
  const manifest = await manifestOf(records[0])
  for (const { digest } of [manifest.config, ...manifest.layers]) expect(parts.blobs.has(NS, digest)).toBe(true)
  expect(parts.blobs.info(NS, image.digest).labels).toEqual({
    'containerd.io/gc.ref.content.config': manifest.config.digest,
    'containerd.io/gc.ref.content.l.0': sha256Of('one'),
    'containerd.io/gc.ref.content.l.1': sha256Of('two'),
  })
  expect(await ingestsLeft()).toBe(0)
})

test('the order in an archive does not matter, nor what else is in it', async () => {
  const layout = createLayout()
  const image = layout.image([Buffer.alloc(3_000_000, 7)])
  const entries = layout.entries([{ ...image, ...tagged('v1') }]).toReversed()

  await load(
    await tarOf([['./', '', { type: 'directory' }], ...entries.map(([name, body]) => [`./${name}`, body] as const)]),
  )

  expect(names()).toEqual(['import:v1'])
})

test.each<[string, Record<string, string>, MessageInitShape<typeof ImageStoreSchema>, string[]]>([
  ['a tag behind the prefix', { ref: 'v1' }, { extraReferences: [ANY] }, ['import:v1']],
  [
    'the full name where it may win',
    { name: 'docker.io/library/a:1', ref: '1' },
    { extraReferences: [ANY] },
    ['docker.io/library/a:1'],
  ],
  [
    'no full name beside the prefix',
    { name: 'docker.io/library/a:1', ref: '1' },
    { extraReferences: [{ name: 'x', isPrefix: true }] },
    [],
  ],
  ['a full name below the prefix', { name: 'x/a:1' }, { extraReferences: [{ name: 'x', isPrefix: true }] }, ['x/a:1']],
  ['none that only begins like it', { name: 'xy/a:1' }, { extraReferences: [{ name: 'x', isPrefix: true }] }, []],
  ['a digest without a name', {}, { extraReferences: [{ ...ANY, addDigest: true }] }, ['import@DIGEST']],
  [
    'name and digest',
    { ref: 'v1' },
    { extraReferences: [{ ...ANY, addDigest: true }] },
    ['import:v1', 'import@DIGEST'],
  ],
  [
    'no digest beside a name',
    { ref: 'v1' },
    { extraReferences: [{ ...ANY, addDigest: true, skipNamedDigest: true }] },
    ['import:v1'],
  ],
  ['the index by the name of the client', { ref: 'v1' }, { name: 'all' }, ['all']],
  [
    'the whole only after its parts',
    { ref: 'v1' },
    { name: 'all', extraReferences: [ANY, { name: 'more' }] },
    ['import:v1', 'all', 'more'],
  ],
  ['nothing', {}, {}, []],
])('names: %s', async (_, { name, ref }, store, expected) => {
  const layout = createLayout()
  const image = layout.image(['layer'])
  const annotations = {
    ...(name ? { 'io.containerd.image.name': name } : {}),
    ...(ref ? { 'org.opencontainers.image.ref.name': ref } : {}),
  }

  await load(await tarOf(layout.entries([{ ...image, annotations }])), store)

  expect(names()).toEqual(expected.map((text) => text.replace('DIGEST', image.digest)))
})

test('each image of an archive that can run is wanted, not the one that fits best', async () => {
  const layout = createLayout()
  const older = layout.image(['older'], { os: 'linux', architecture: 'arm', variant: 'v6' })
  const exact = layout.image(['exact'], { os: 'linux', architecture: 'arm', variant: 'v7' })
  const other = layout.image(['other'], { os: 'linux', architecture: 's390x' })
  const images = [
    { ...older, ...tagged('older') },
    { ...exact, ...tagged('exact') },
    { ...other, ...tagged('other') },
  ]
  const store = { extraReferences: [ANY], platforms: [{ os: 'linux', architecture: 'arm', variant: 'v7' }] }
  const without = (text: string) => layout.entries(images).filter(([, body]) => String(body) !== text)

  await load(await tarOf(without('other')), store) // records are made of all, as containerd does
  expect(names()).toEqual(['import:older', 'import:exact', 'import:other'])
})

test('of each image that can run all parts have to be here', async () => {
  const layout = createLayout()
  const older = layout.image(['older'], { os: 'linux', architecture: 'arm', variant: 'v6' })
  const exact = layout.image(['exact'], { os: 'linux', architecture: 'arm', variant: 'v7' })
  const platforms = [{ os: 'linux', architecture: 'arm', variant: 'v7' }]
  const archive = await tarOf(layout.entries([older, exact]).filter(([, body]) => String(body) !== 'older'))

  await expect(load(archive, { name: 'all', platforms })).rejects.toMatchObject({ code: 'not-found' })
  expect(names()).toEqual([])
})

test('an archive without any image is an error', async () => {
  await expect(load(await tarOf(createLayout().entries([])))).rejects.toMatchObject({
    ...{ code: 'not-found', message: 'Cannot import the archive: it has no image' },
  })
})

test('of an index come the platforms that are wanted, and only their parts have to be here', async () => {
  const layout = createLayout()
  const mine = layout.image(['mine'])
  const other = createLayout().image(['other'], parsePlatform('linux/s390x'))
  const index = layout.index([mine, other])
  const archive = await tarOf(layout.entries([{ ...index, ...tagged('v1') }]))

  await expect(load(archive)).rejects.toMatchObject({ code: 'not-found' })
  expect(names()).toEqual([])
  await load(archive, {
    extraReferences: [ANY],
    platforms: [hostPlatform()].map((p) => ({ ...p, variant: p.variant ?? '' })) as never,
  })

  expect(names()).toEqual(['import:v1'])
  expect(parts.blobs.info(NS, index.digest).labels).toEqual({ 'containerd.io/gc.ref.content.m.0': mine.digest })
  const foreign = [{ os: 'linux', architecture: 's390x' }]
  await expect(load(archive, { extraReferences: [ANY], platforms: foreign })).rejects.toMatchObject({
    code: 'not-found',
  })
})

const CONFIG = JSON.stringify({
  ...hostPlatform(),
  rootfs: { type: 'layers', diff_ids: [sha256Of('one'), sha256Of('two')] },
})
const docker = (manifest: object[], more: TestEntry[] = []): TestEntry[] => [
  ['c.json', CONFIG],
  ['one/layer.tar', 'one'],
  ['one/VERSION', '1.0'],
  ['two/layer.tar', 'two'],
  ...more,
  ['manifest.json', JSON.stringify(manifest)],
]
const IMAGE = { Config: 'c.json', RepoTags: ['a:1', 'example.com/b:2'], Layers: ['one/layer.tar', 'two/layer.tar'] }

test('what docker saved becomes manifests of its own kind, one name a tag', async () => {
  await load(await tarOf(docker([IMAGE])))

  expect(names()).toEqual(['docker.io/library/a:1', 'example.com/b:2'])
  expect(await manifestOf(records[0])).toMatchObject({
    mediaType: MEDIA.dockerManifest,
    config: { mediaType: MEDIA.dockerConfig, digest: sha256Of(CONFIG) },
    layers: [
      { mediaType: MEDIA.dockerLayer, digest: sha256Of('one') },
      { mediaType: MEDIA.dockerLayer, digest: sha256Of('two') },
    ],
  })
  expect(await ingestsLeft()).toBe(0)
})

test('plain layers are compressed when asked, and what is here compressed is used again', async () => {
  await load(await tarOf(docker([IMAGE])), { extraReferences: [ANY] }, { compress: true })
  const { layers } = await manifestOf(records[0])
  expect(layers.map(({ mediaType }) => mediaType)).toEqual([MEDIA.dockerLayerGzip, MEDIA.dockerLayerGzip])
  expect(layers.map(({ digest }) => parts.blobs.info(NS, digest).labels['containerd.io/uncompressed'])).toEqual([
    sha256Of('one'),
    sha256Of('two'),
  ])

  await load(await tarOf(docker([IMAGE])))

  expect((await manifestOf(records.at(-1))).layers).toEqual(layers)
})

test('what was here compressed and is collected meanwhile is not counted on', async () => {
  const labels = { 'containerd.io/uncompressed': sha256Of('one') }
  vi.spyOn(parts.blobs, 'list').mockReturnValue([create(InfoSchema, { digest: sha256Of('gone'), size: 4n, labels })])

  await load(await tarOf(docker([IMAGE])))

  const { layers } = await manifestOf(records[0])
  expect(layers.map(({ digest }) => digest)).toEqual([sha256Of('one'), sha256Of('two')])
})

test('what is here compressed is looked up once, however many images there are, and counts for all of them', async () => {
  const list = vi.spyOn(parts.blobs, 'list')
  const images = ['a:1', 'b:1', 'c:1'].map((tag) => ({ ...IMAGE, RepoTags: [tag] }))

  await load(await tarOf(docker(images)), { extraReferences: [ANY] }, { compress: true })

  expect(list).toHaveBeenCalledTimes(1)
  expect(new Set(records.map(({ target }) => target.digest)).size).toBe(1)
})

test('a link between layers is another name of the layer, and nothing else', async () => {
  const link = (linkname: string): TestEntry => ['three/layer.tar', '', { type: 'symlink', linkname }]
  const image = { ...IMAGE, Layers: ['one/layer.tar', 'three/layer.tar'] }

  await load(await tarOf(docker([image], [link('../two/layer.tar')])))
  expect((await manifestOf(records[0])).layers[1]?.digest).toBe(sha256Of('two'))

  for (const target of ['../../etc/passwd', '/etc/passwd', 'layer.tar'])
    await expect(load(await tarOf(docker([image], [link(target)])))).rejects.toThrow('is not in the archive')
})

const oci = (...more: TestEntry[]) => {
  const layout = createLayout()
  return [...layout.entries([{ ...layout.image(['layer']), ...tagged('v1') }]), ...more]
}
const manyLinks = (): TestEntry[] => {
  const linkname = 'y'.repeat(4000)
  return Array.from({ length: 2100 }, (_, at) => [`${at}`.padEnd(4000, 'x'), '', { type: 'symlink', linkname }])
}
/** An image whose manifest is nearly as large as one may be, with so many tags. */
const largeManifest = (tags: number): TestEntry[] => {
  const layout = createLayout()
  const [config, layer] = [layout.put(MEDIA.ociConfig, '{}'), layout.put(MEDIA.ociLayer, 'layer')]
  const layers = [descriptorJson({ ...layer, annotations: { a: 'a'.repeat(4_000_000) } })]
  const manifest = { schemaVersion: 2, mediaType: MEDIA.ociManifest, config: descriptorJson(config), layers }
  const image = layout.put(MEDIA.ociManifest, manifest)
  return layout.entries(Array.from({ length: tags }, (_, at) => ({ ...image, ...tagged(`${at}`) })))
}
const WRONG = `blobs/sha256/${sha256Of('right').slice(7)}`

test.each<[string, () => Promise<Buffer> | Buffer, string, RegExp]>([
  ['nothing', () => Buffer.alloc(0), 'invalid-argument', /neither/],
  ['text', () => Buffer.alloc(2000, 'text '), 'invalid-argument', /no tar/],
  ['a gzip that is cut off', async () => gzipSync(await tarOf(oci())).subarray(0, 400), 'invalid-argument', /gzip/],
  [
    'a zstd that is cut off',
    async () => zstdCompressSync(await tarOf(oci())).subarray(0, 400),
    'invalid-argument',
    /zstd/,
  ],
  ['a tar that is cut off in a blob', async () => (await tarOf(oci())).subarray(0, 513), 'invalid-argument', /cut off/],
  [
    'a size that lies',
    async () => (await tarOf([[WRONG, 'x'.repeat(1024)]])).subarray(0, 1024),
    'invalid-argument',
    /cut off/,
  ],
  ['a name that leads out', () => tarOf([['../x', 'x']]), 'invalid-argument', /leads out/],
  ['an absolute name', () => tarOf([['/etc/x', 'x']]), 'invalid-argument', /leads out/],
  ['a blob that is another', () => tarOf(oci([WRONG, 'wrong'])), 'failed-precondition', /right|sha256/],
  ['CVE-2024-3727: a malformed digest', () => tarOf(oci(['blobs/sha256/abc', 'x'])), 'invalid-argument', /no blob/],
  ['CVE-2024-3727: a digest with a path', () => tarOf(oci([`${WRONG}/x`, 'x'])), 'invalid-argument', /no blob/],
  ['two indexes', () => tarOf(oci(['index.json', '{}'])), 'invalid-argument', /twice/],
  [
    'an index that is a link',
    () => tarOf([['index.json', '', { type: 'symlink', linkname: '/etc/passwd' }]]),
    'invalid-argument',
    /link/,
  ],
  ['two layers of one name', () => tarOf(docker([IMAGE], [['one/layer.tar', 'other']])), 'invalid-argument', /twice/],
  [
    'a layer that is missing',
    () => tarOf(docker([{ ...IMAGE, Layers: ['x'] }])),
    'invalid-argument',
    /not in the archive/,
  ],
  ['a tag that is none', () => tarOf(docker([{ ...IMAGE, RepoTags: ['a:1\n'] }])), 'invalid-argument', /malformed/],
  [
    'CVE-2023-25153: a manifest.json that is huge',
    () => tarOf([['manifest.json', Buffer.alloc(20 * 1024 * 1024 + 1, ' ')]]),
    'invalid-argument',
    /more than/,
  ],
  ['names that fill the memory', () => tarOf(manyLinks()), 'resource-exhausted', /its names/],
  [
    'more tags than an index may have',
    () => tarOf(docker(Array.from({ length: 2 }, () => ({ ...IMAGE, RepoTags: Array(1000).fill('a:1') })))),
    'invalid-argument',
    /more than 1024 images and tags/,
  ],
  ['manifests that fill the memory', () => tarOf(largeManifest(9)), 'failed-precondition', /bytes of manifests/],
  [
    'another version of the layout',
    () =>
      tarOf([
        ['index.json', '{}'],
        ['oci-layout', '{"imageLayoutVersion":"2.0.0"}'],
      ]),
    'invalid-argument',
    /version/,
  ],
])('refused: %s', async (_, bytes, code, message) => {
  await expect(load(await bytes())).rejects.toMatchObject({ code, message: expect.stringMatching(message) })

  expect(names()).toEqual([])
  expect(await ingestsLeft()).toBe(0)
})

test.each<[string, (layout: ReturnType<typeof createLayout>) => object, RegExp]>([
  [
    'CVE-2021-41190: a manifest that is an index too',
    (layout) => ({
      ...layout.image(['x']),
      digest: layout.put(MEDIA.ociManifest, {
        schemaVersion: 2,
        mediaType: MEDIA.ociManifest,
        layers: [],
        config: {},
        manifests: [],
      }).digest,
    }),
    /said to have|manifests/,
  ],
  ['a size that is not the one of the blob', (layout) => ({ ...layout.image(['x']), size: 1n }), /said to have 1/],
])('refused: %s', async (_, make, message) => {
  const layout = createLayout()
  const descriptor = { ...layout.image(['x']), ...make(layout), ...tagged('v1') }

  await expect(load(await tarOf(layout.entries([descriptor])))).rejects.toMatchObject({
    code: 'failed-precondition',
    message: expect.stringMatching(message),
  })
  expect(names()).toEqual([])
})

test('CVE-2026-53493: an index that nests deep is refused', async () => {
  const layout = createLayout()
  let index = layout.index([layout.image(['x'])])
  for (let depth = 0; depth < 6; depth++) index = layout.index([index])

  await expect(load(await tarOf(layout.entries([{ ...index, ...tagged('v1') }])))).rejects.toThrow('nested')
})

test('a bomb is refused before it fills the disk', async () => {
  const bomb = zstdCompressSync(Buffer.alloc(300 * 1024 * 1024))

  await expect(load(bomb)).rejects.toMatchObject({ code: 'resource-exhausted' })
})

test('when a verifier objects to one image of an archive, none of them gets a record', async () => {
  const layout = createLayout()
  const [one, two] = [layout.image(['one']), layout.image(['two'])]
  const tar = await tarOf(
    layout.entries([
      { ...one, ...tagged('one') },
      { ...two, ...tagged('two') },
    ]),
  )
  const asked: string[] = []
  const verify: VerifyImage = async (name, { digest }) => {
    asked.push(`${name} ${digest}`)
    if (name === 'import:two') throw new Fault('unknown', 'not signed')
  }

  await expect(load(tar, undefined, { verify })).rejects.toMatchObject({ code: 'unknown', message: 'not signed' })

  expect(asked).toEqual([`import:one ${one.digest}`, `import:two ${two.digest}`])
  expect([names(), await ingestsLeft()]).toEqual([[], 0])
  expect([...parts.leases.held.keys()]).toEqual(['held']) // the lease of the import, which alone held its blobs, is gone
})

test('with a media type the archive is taken as it is', async () => {
  await expect(load(gzipSync(await tarOf(oci())), undefined, { mediaType: 'application/x-tar' })).rejects.toMatchObject(
    {
      code: 'invalid-argument',
    },
  )
})

test('the index of the archive is kept when the client names it', async () => {
  const layout = createLayout()
  const [one, two] = [layout.image(['1']), layout.image(['2'])]

  await load(await tarOf(layout.entries([one, two])), { name: 'all', labels: { a: '1' } })

  expect(records).toMatchObject([{ name: 'all', labels: { a: '1' }, target: { mediaType: MEDIA.ociIndex } }])
  const index = await readStored(
    { ...records[0]?.target, digest: parseDigest(records[0]?.target.digest ?? '') } as never,
    { namespace: NS, blobs: parts.blobs },
    parseIndex,
  )
  expect(index.manifests.map(({ digest }) => digest)).toEqual([one.digest, two.digest])
})
