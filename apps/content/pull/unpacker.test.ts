import { join } from 'node:path'
import { create } from '@bufbuild/protobuf'
import { UnpackConfigurationSchema } from '@gantry/api/containerd/types/transfer/imagestore_pb'
import { Phase, Unpack, type UnpackRequest } from '@gantry/api/gantry/snapshots/v1/unpack_pb'
import { type Descriptor, MEDIA } from '@gantry/model/descriptor'
import type { Manifest } from '@gantry/model/manifest'
import { parseNamespace } from '@gantry/model/namespace'
import { hostPlatform } from '@gantry/model/platform'
import { connect } from '@gantry/rpc/client'
import { listen } from '@gantry/rpc/server'
import { bind } from '@gantry/rpc/service'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { openTestParts, type TestParts } from '../testing/parts.ts'
import { createProgress } from './progress.ts'
import { createUnpacker, type Unpacker } from './unpacker.ts'

const NS = parseNamespace('default')
const HOST = hostPlatform()
const signal = AbortSignal.timeout(10_000)
let parts: TestParts
let stack: AsyncDisposableStack
let unpacker: Unpacker
let asked: { request: UnpackRequest; lease: string | undefined }[]

beforeEach(async () => {
  parts = await openTestParts()
  asked = []
  stack = new AsyncDisposableStack()
  stack.use(parts)
  const address = join(parts.root, 's')
  const service = bind(Unpack, {
    async *unpack(request, { lease }) {
      asked.push({ request, lease })
      yield { layer: 0, phase: Phase.EXTRACTING }
      yield { layer: 0, phase: Phase.EXTRACTED, chainId: 'chain-0' }
      yield { layer: 1, phase: Phase.EXISTS, chainId: 'chain-1' }
    },
  })
  const log = { error: () => undefined, debug: () => undefined }
  stack.use(await listen({ address, bindings: [service], log }))
  const snapshots = stack.use(connect(address))
  unpacker = createUnpacker({
    snapshots,
    blobs: parts.blobs,
    snapshotters: ['overlayfs', 'native'],
    log: { warn: () => undefined },
  })
})
afterEach(() => stack.disposeAsync())

async function put(mediaType: string, text: string): Promise<Descriptor> {
  const opening = { namespace: NS, lease: undefined, ref: 'r', expected: undefined, total: 0n }
  await using writer = await parts.ingests.open(opening, signal)
  await writer.append(Buffer.from(text))
  const digest = await writer.commit({ total: 0n, expected: undefined, labels: {} }, signal)
  return { mediaType, digest, size: BigInt(text.length) }
}

async function image({
  platform = HOST,
  diffIds = 2,
}: {
  platform?: object
  diffIds?: number
} = {}): Promise<Manifest> {
  const [one, two] = [await put(MEDIA.ociLayer, 'one'), await put(MEDIA.ociLayer, 'two')]
  const layers = [one, two].map((layer) => ({ ...layer, annotations: { toc: layer.digest } }))
  const rootfs = { type: 'layers', diff_ids: layers.slice(0, diffIds).map(({ digest }) => digest) }
  const config = await put(MEDIA.ociConfig, JSON.stringify({ ...platform, rootfs }))
  return { mediaType: MEDIA.ociManifest, config, layers, annotations: {} }
}

const wish = (platform: object | undefined, snapshotter: string) =>
  create(UnpackConfigurationSchema, { ...(platform ? { platform } : {}), snapshotter })

test('CVE-2023-25153: a config is as large as it is, not as its manifest says', async () => {
  const config = await put(MEDIA.ociConfig, ' '.repeat(9_000_000))
  const progress = createProgress(undefined)
  const plans = unpacker.plan([wish(HOST, '')], () => undefined)
  const unpacking = unpacker.begin(plans, { holder: { namespace: NS, lease: undefined }, progress, signal })

  await expect(unpacking.add({ ...(await image()), config: { ...config, size: 10n } })).rejects.toMatchObject({
    code: 'failed-precondition',
    message: expect.stringMatching(/has 9000000 bytes/),
  })
})

test.each([
  ['the first snapshotter and the host when nothing is named', [wish(undefined, '')], [['overlayfs', HOST]], []],
  ['the one that is named', [wish(HOST, 'native')], [['native', HOST]], []],
  ['what is possible, and says what is not', [wish(HOST, 'zfs'), wish(HOST, 'native')], [['native', HOST]], [/zfs/]],
  ['nothing when nothing is wished', [], [], []],
])('the plan is %s', (_, wishes, plans, lines) => {
  const warn = vi.fn()

  expect(unpacker.plan(wishes, warn).map(({ snapshotter, platform }) => [snapshotter, platform])).toEqual(plans)
  expect(warn.mock.calls).toEqual(lines.map((line) => [expect.stringMatching(line)]))
})

test('a wish that cannot be met is refused', () => {
  expect(() => unpacker.plan([wish(HOST, 'zfs')], () => undefined)).toThrow('there is only overlayfs, native')
  expect(() => unpacker.plan([wish({ os: 'windows', architecture: 'amd64' }, '')], () => undefined)).toThrow(
    'Cannot unpack',
  )
})

test('layers are handed over with their diff IDs, and what they became is written down', async () => {
  const manifest = await image()
  await using progress = createProgress(undefined)

  const call = { holder: { namespace: NS, lease: 'held' }, progress, reference: 'host/repo:tag', signal }
  const unpacking = unpacker.begin(
    unpacker.plan([wish(HOST, '')], () => undefined),
    call,
  )
  await unpacking.add(manifest, 'sha256:m')
  await unpacking.finish()

  expect(asked.map(({ lease }) => lease)).toEqual(['held'])
  expect(asked[0]?.request).toMatchObject({
    ...{ snapshotter: 'overlayfs', reference: 'host/repo:tag', manifest: 'sha256:m' },
    layers: manifest.layers.map(({ digest, size, mediaType, annotations }) => ({
      blob: { digest, size, mediaType, annotations },
      diffId: digest,
    })),
  })
  const labels = ({ digest }: Descriptor) => parts.blobs.info(NS, digest).labels
  expect(labels(manifest.config)).toEqual({ 'containerd.io/gc.ref.snapshot.overlayfs': 'chain-1' })
  expect(manifest.layers.map(labels)).toEqual(
    manifest.layers.map(({ digest }) => ({ 'containerd.io/uncompressed': digest })),
  )
})

test.each([
  ['another platform', { platform: { os: 'linux', architecture: 's390x' } }, 'not-found', /there is linux\/s390x/],
  ['fewer diff IDs than layers', { diffIds: 1 }, 'failed-precondition', /2 layers, but 1 diff IDs/],
])('an image with %s is not unpacked', async (_, shape, code, message) => {
  const manifest = await image(shape)
  await using progress = createProgress(undefined)

  const call = { holder: { namespace: NS, lease: undefined }, progress, signal }
  const unpacking = unpacker.begin(
    unpacker.plan([wish(HOST, '')], () => undefined),
    call,
  )

  await expect(unpacking.add(manifest, 'sha256:m').then(unpacking.finish)).rejects.toMatchObject({
    code,
    message: expect.stringMatching(message),
  })
  expect(asked).toEqual([])
})
