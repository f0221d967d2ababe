/** Blobs whose digests are of other algorithms than sha256, from their upload to their end. */
import { randomBytes } from 'node:crypto'
import { chmod, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { MessageInitShape } from '@bufbuild/protobuf'
import {
  Content,
  WriteAction,
  type WriteContentRequestSchema,
} from '@gantry/api/containerd/services/content/v1/content_pb'
import { Blobs, VerifyResponse_Outcome as Outcome } from '@gantry/api/gantry/content/v1/blobs_pb'
import { MEDIA } from '@gantry/model/descriptor'
import { type Digest, type DigestAlgorithm, sha256Of } from '@gantry/model/digest'
import { type Client, clientOf, connect } from '@gantry/rpc/client'
import { listen } from '@gantry/rpc/server'
import { bind } from '@gantry/rpc/service'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { contentService } from './content-service.ts'
import { blobsService } from './owner-service.ts'
import { openTestParts, type TestParts } from './testing/parts.ts'
import { openPuller } from './testing/puller.ts'
import { digestOf } from './testing/registry.ts'
import { createScrub } from './verify/scrub.ts'

type Message = MessageInitShape<typeof WriteContentRequestSchema>

const silent = { error: () => undefined, debug: () => undefined }
const DATA = randomBytes(700_000)
let parts: TestParts
let stack: AsyncDisposableStack
let content: Client<typeof Content>
let blobs: Client<typeof Blobs>

beforeEach(async () => {
  stack = new AsyncDisposableStack()
  parts = stack.use(await openTestParts())
  const address = join(parts.root, 's')
  const bindings = [
    bind(Content, contentService(parts)),
    bind(Blobs, blobsService(parts.blobs, parts.growing, createScrub(parts))),
  ]
  stack.use(await listen({ address, bindings, log: silent }))
  const channel = stack.use(connect(address))
  content = clientOf(Content, channel)
  blobs = clientOf(Blobs, channel)
})
afterEach(() => stack.disposeAsync())

const options = (namespace = 'default') => ({ namespace, signal: AbortSignal.timeout(5000) })

async function upload(messages: Message[], namespace?: string) {
  async function* requests(): AsyncGenerator<Message> {
    yield* messages
  }
  return await Array.fromAsync(content.write(requests(), options(namespace)))
}

/** All of it in one stream; `expected` comes with the first message, as containerd's client sends it, or the last. */
const whole = (data: Buffer, expected: Digest, first = true): Message[] => [
  { action: WriteAction.STAT, ref: expected, total: BigInt(data.length), ...(first ? { expected } : {}) },
  { action: WriteAction.WRITE, data: data.subarray(0, 500_000) },
  { action: WriteAction.WRITE, offset: 500_000n, data: data.subarray(500_000) },
  { action: WriteAction.COMMIT, offset: BigInt(data.length), total: BigInt(data.length), expected },
]

describe.each(['sha256', 'sha384', 'sha512'] as const)('%s', (algorithm: DigestAlgorithm) => {
  const digest = digestOf(algorithm, DATA)

  test.each([true, false])(
    'a blob is written, listed, read, located and removed (expected at once: %j)',
    async (first) => {
      const replies = await upload(whole(DATA, digest, first))
      expect(replies.at(-1)).toMatchObject({ action: WriteAction.COMMIT, digest, offset: 700_000n })

      expect((await content.info({ digest }, options())).info).toMatchObject({ digest, size: 700_000n })
      const listed = await Array.fromAsync(content.list({ filters: [`digest==${digest}`] }, options()))
      expect(listed.flatMap(({ info }) => info.map((one) => one.digest))).toEqual([digest])
      const read = await Array.fromAsync(content.read({ digest }, options()))
      expect(Buffer.concat(read.map(({ data }) => data)).equals(DATA)).toBe(true)
      const { path, size } = await blobs.locate({ digest }, options())
      expect([path, size]).toEqual([parts.folder.blobPath(digest), 700_000n])
      expect((await readFile(path)).equals(DATA)).toBe(true)
      expect(parts.events).toEqual([
        expect.objectContaining({ topic: '/content/create', event: expect.objectContaining({ digest }) }),
      ])
      await content.delete({ digest }, options())
      await expect(content.info({ digest }, options())).rejects.toMatchObject({ code: 'not-found' })
    },
  )

  test('bytes that hash to something else are refused, and can be gone on with', async () => {
    const expected = digestOf(algorithm, randomBytes(10))

    await expect(upload(whole(DATA, expected))).rejects.toMatchObject({ code: 'failed-precondition' })

    const { status } = await content.status({ ref: expected }, options())
    expect(status?.offset).toBe(700_000n)
    const commit = { action: WriteAction.COMMIT, ref: expected, offset: 700_000n, expected: digest }
    expect((await upload([commit])).at(-1)?.digest).toBe(digest)
  })

  test('an upload that broke off is gone on with', async () => {
    await upload(whole(DATA, digest).slice(0, 2))

    const [stat] = await upload([{ action: WriteAction.STAT, ref: digest }])
    expect([stat?.offset, stat?.digest]).toEqual([500_000n, sha256Of(DATA.subarray(0, 500_000))])
    const [, , rest, commit] = whole(DATA, digest)
    await upload([{ ...rest, ref: digest }, commit ?? {}])
    expect((await content.info({ digest }, options())).info?.size).toBe(700_000n)
  })

  test('another namespace that knows the digest has it for the asking', async () => {
    await upload(whole(DATA, digest))

    const open: Message = { action: WriteAction.STAT, ref: 'x', expected: digest, total: 700_000n }
    const commit: Message = { action: WriteAction.COMMIT, offset: 700_000n, expected: digest }
    const [stat] = await upload([open, commit], 'other')

    expect(stat?.offset).toBe(700_000n)
    expect((await content.info({ digest }, options('other'))).info?.size).toBe(700_000n)
  })

  test('a blob that rotted is found', async () => {
    await upload(whole(DATA, digest))
    const { path } = await blobs.locate({ digest }, options())
    await chmod(path, 0o600)
    await writeFile(path, Buffer.from(DATA).fill('?'))

    const found = await Array.fromAsync(blobs.verify({ digests: [digest] }, { signal: AbortSignal.timeout(5000) }))

    expect(found).toEqual([expect.objectContaining({ digest, outcome: Outcome.QUARANTINED, namespaces: ['default'] })])
    await expect(blobs.locate({ digest }, options())).rejects.toMatchObject({ code: 'not-found' })
  })
})

test('the same bytes under two digests are two blobs', async () => {
  const digests = [digestOf('sha256', DATA), digestOf('sha512', DATA)]
  for (const digest of digests) await upload(whole(DATA, digest as Digest))

  const listed = await Array.fromAsync(content.list({}, options()))

  expect(listed.flatMap(({ info }) => info.map(({ digest }) => digest))).toEqual(digests)
})

test.each(['sha384', 'sha512'] as const)('an image whose parts are named by %s is pulled', async (algorithm) => {
  await using puller = await openPuller()
  const { registry } = puller
  const layers = [randomBytes(400_000), Buffer.from('small')].map((bytes) =>
    registry.put(MEDIA.ociLayer, bytes, algorithm),
  )
  const config = registry.put(MEDIA.ociConfig, { rootfs: { type: 'layers', diff_ids: [] } }, algorithm)
  const plain = [config, ...layers].map(({ mediaType, digest, size }) => ({ mediaType, digest, size: Number(size) }))
  const document = { schemaVersion: 2, mediaType: MEDIA.ociManifest, config: plain[0], layers: plain.slice(1) }
  const manifest = registry.put(MEDIA.ociManifest, document, algorithm)

  await puller.pull({ object: `@${manifest.digest}` })

  for (const { digest, size } of [manifest, config, ...layers])
    expect(puller.parts.blobs.info(puller.namespace, digest).size).toBe(size)
  expect(puller.parts.blobs.info(puller.namespace, manifest.digest).labels).toMatchObject({
    'containerd.io/gc.ref.content.config': config.digest,
    'containerd.io/gc.ref.content.l.1': layers[1]?.digest,
  })
  expect(await puller.left()).toEqual({ records: ['my-image'], ingests: [], folders: [], leases: [] })
})

test('a layer whose bytes do not hash to its sha512 is refused', async () => {
  await using puller = await openPuller()
  const { registry } = puller
  const layer = registry.put(MEDIA.ociLayer, 'what was promised', 'sha512')
  const config = registry.put(MEDIA.ociConfig, {})
  const plain = [config, layer].map(({ mediaType, digest, size }) => ({ mediaType, digest, size: Number(size) }))
  registry.tag('app:1', registry.put(MEDIA.ociManifest, { schemaVersion: 2, config: plain[0], layers: plain.slice(1) }))
  registry.misbehave(/GET .*blobs\/sha512/, (_, response) => response.end('what is delivered'))

  await expect(puller.pull()).rejects.toMatchObject({ code: 'failed-precondition' })

  expect(await puller.left()).toEqual({ records: [], ingests: [], folders: [], leases: [] })
})
