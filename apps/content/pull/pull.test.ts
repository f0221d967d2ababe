import { randomBytes } from 'node:crypto'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { create, fromBinary } from '@bufbuild/protobuf'
import { ImageStoreSchema } from '@gantry/api/containerd/types/transfer/imagestore_pb'
import { ProgressSchema } from '@gantry/api/containerd/types/transfer/progress_pb'
import { type Descriptor, MEDIA } from '@gantry/model/descriptor'
import { sha256Of } from '@gantry/model/digest'
import { Fault } from '@gantry/model/fault'
import { parseNamespace } from '@gantry/model/namespace'
import type { Platform } from '@gantry/model/platform'
import { parseReference } from '@gantry/model/reference'
import { refKey } from '@gantry/model/refkey'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { ImageRecord } from '../images.ts'
import { createRegistry } from '../registry/registry.ts'
import { createTransport, type Transport } from '../registry/transport.ts'
import { openTestParts, type TestParts } from '../testing/parts.ts'
import { startRegistry, type TestRegistry } from '../testing/registry.ts'
import { noUnpacker } from '../testing/unpacker.ts'
import type { VerifyImage } from '../verify/verify-image.ts'
import { createProgress } from './progress.ts'
import { createPull } from './pull.ts'
import type { Unpacker } from './unpacker.ts'

const NS = parseNamespace('default')
const AMD64 = { os: 'linux', architecture: 'amd64' }
const ARM64 = { os: 'linux', architecture: 'arm64' }
const STALL_MS = 300
const LATE_MS = 30_000 // for what takes no time on a machine that does nothing else
let parts: TestParts
let registry: TestRegistry
let transport: Transport
let records: Map<string, ImageRecord>

beforeEach(async () => {
  parts = await openTestParts()
  registry = await startRegistry()
  transport = createTransport({ proxy: { httpProxy: '', httpsProxy: '', noProxy: '' }, stallMs: STALL_MS })
  records = new Map()
})
afterEach(async () => {
  await transport[Symbol.asyncDispose]()
  await registry[Symbol.asyncDispose]()
  await parts[Symbol.asyncDispose]()
})

interface Options {
  readonly store?: Parameters<typeof create<typeof ImageStoreSchema>>[1]
  readonly platforms?: Platform[]
  readonly lease?: string
  readonly host?: string
  readonly object?: string
  readonly send?: (name: string, event: string) => void
  readonly unpacker?: Unpacker
  readonly verify?: VerifyImage
  readonly signal?: AbortSignal
}

async function pull(options: Options = {}): Promise<void> {
  const { host = registry.host, object = ':1', platforms = [], lease, send, unpacker = noUnpacker } = options
  const images = { put: async (_: unknown, image: ImageRecord) => void records.set(image.name, image) }
  const run = createPull({
    ...parts,
    registry: createRegistry({ transport, now: Date.now, stallMs: STALL_MS, backoffMs: 1 }),
    images: { ...images, target: () => Promise.reject(new Error('not asked for')) },
    unpacker,
    verify: options.verify ?? (async () => undefined),
    downloads: 4,
    connections: 3,
  })
  await using progress = createProgress(
    send &&
      (async ({ value }) => {
        const { name, event } = fromBinary(ProgressSchema, value)
        send(name, event)
      }),
  )
  const source = { reference: parseReference(`${host}/app${object}`), defaultScheme: '', headers: {} }
  const request = { source, store: create(ImageStoreSchema, options.store ?? { name: 'my-image' }), platforms }
  await run(request, { namespace: NS, lease }, { progress, signal: options.signal ?? AbortSignal.timeout(10_000) })
}

/** Everything a pull may leave behind when it fails: nothing. */
async function expectNothingLeft(): Promise<void> {
  expect(records.size).toBe(0)
  expect([...parts.rows.ingests.list()]).toEqual([])
  expect(await readdir(join(parts.root, 'content', 'ingest'))).toEqual([])
  expect([...parts.leases.held.keys()]).toEqual(['held'])
}

const labelsOf = ({ digest }: Descriptor) => parts.blobs.info(NS, digest).labels

test('an image arrives with its labels and its record, and its own lease is gone', async () => {
  const { manifest, config, layers } = registry.image(['one', 'two'])
  registry.tag('app:1', manifest)

  await pull({ store: { name: 'my-image', labels: { kept: 'yes' } } })

  const target = expect.objectContaining({ digest: manifest.digest, mediaType: MEDIA.ociManifest })
  expect(records.get('my-image')).toEqual({ name: 'my-image', labels: { kept: 'yes' }, target })
  expect(labelsOf(manifest)).toEqual({
    [`containerd.io/distribution.source.${registry.host}`]: 'app',
    'containerd.io/gc.ref.content.config': config.digest,
    'containerd.io/gc.ref.content.l.0': layers[0]?.digest,
    'containerd.io/gc.ref.content.l.1': layers[1]?.digest,
  })
  expect([...parts.leases.held.keys()]).toEqual(['held'])
  expect((await readFile(parts.folder.blobPath(sha256Of('one')))).toString()).toBe('one')
})

test('the lease of the call holds every blob', async () => {
  const { manifest, config, layers } = registry.image(['one'])
  registry.tag('app:1', manifest)

  await pull({ lease: 'held' })

  const held = [manifest, config, ...layers].map(({ digest }) => `content ${digest}`)
  expect([...(parts.leases.held.get('held') ?? [])].sort()).toEqual(held.sort())
})

test('of an index only the wanted platform comes, but all its manifests are referred to', async () => {
  const [mine, other] = [registry.image(['mine'], AMD64), registry.image(['other'], ARM64)]
  const index = registry.index([other.manifest, mine.manifest])
  registry.tag('app:1', index)

  await pull({ platforms: [AMD64] })

  expect(parts.blobs.has(NS, sha256Of('mine'))).toBe(true)
  expect(parts.blobs.has(NS, sha256Of('other'))).toBe(false)
  expect(labelsOf(index)).toMatchObject({
    'containerd.io/gc.ref.content.m.0': other.manifest.digest,
    'containerd.io/gc.ref.content.m.1': mine.manifest.digest,
  })
})

test('all metadata means manifests and configs of the others, without their layers', async () => {
  const [mine, other] = [registry.image(['mine'], AMD64), registry.image(['other'], ARM64)]
  registry.tag('app:1', registry.index([mine.manifest, other.manifest]))

  await pull({ platforms: [AMD64], store: { name: 'my-image', allMetadata: true } })

  expect(parts.blobs.has(NS, other.config.digest)).toBe(true)
  expect(parts.blobs.has(NS, sha256Of('other'))).toBe(false)
})

test('a platform the image is not made for is named, with those it is made for', async () => {
  registry.tag('app:1', registry.index([registry.image(['x'], ARM64).manifest]))

  await expect(pull({ platforms: [{ os: 'linux', architecture: 's390x' }] })).rejects.toMatchObject({
    code: 'not-found',
    message: expect.stringMatching(/no manifest for linux\/s390x: it has linux\/arm64/),
  })
  await expectNothingLeft()
})

test('a second pull fetches nothing but the digest, and adds where the blobs came from', async () => {
  const { manifest, layers } = registry.image(['one'])
  registry.tag('app:1', manifest)
  await pull()
  const before = registry.requests.length

  await pull()

  expect(registry.requests.slice(before)).toEqual(['HEAD /v2/app/manifests/1'])
  expect(labelsOf(layers[0] ?? manifest)).toEqual({ [`containerd.io/distribution.source.${registry.host}`]: 'app' })
})

test('two pulls at the same time share the work', async () => {
  const { manifest } = registry.image([randomBytes(3_000_000), 'two'])
  registry.tag('app:1', manifest)

  await Promise.all([pull(), pull(), pull()])

  expect(registry.requests.filter((line) => line.startsWith('GET'))).toHaveLength(4)
})

test('a client sees the words it knows', async () => {
  const { manifest } = registry.image(['one'])
  registry.tag('app:1', manifest)
  const seen: string[] = []

  await pull({ send: (name, event) => seen.push(name ? `${name} ${event}` : event) })

  const text = `${registry.host}/app:1`
  expect(seen.slice(0, 3)).toEqual([`Resolving from ${text}`, `Pulling from ${text}`, `${text} fetching image content`])
  expect(seen).toContain(`manifest-${manifest.digest} complete`)
  expect(seen).toContain(`layer-${sha256Of('one')} complete`)
  expect(seen.slice(-2)).toEqual(['my-image saved', `Completed pull from ${text}`])
})

test.each([500_000, 5_000_000])('a blob of %i bytes that breaks off is taken up where it broke', async (size) => {
  const layer = randomBytes(size)
  registry.tag('app:1', registry.image([layer]).manifest)
  registry.misbehave(
    new RegExp(`GET .*blobs/${sha256Of(layer)}`),
    (_, response, body) => {
      response.writeHead(200, { 'content-length': body.length })
      response.write(body.subarray(0, 0.4 * size), () => setTimeout(() => response.destroy(), 50))
    },
    1,
  )

  await pull()

  expect(registry.requests.at(-1)).toMatch(new RegExp(`GET .*blobs.* bytes=${0.4 * size}-$`))
  expect(parts.blobs.has(NS, sha256Of(layer))).toBe(true)
})

test('an ingest that an earlier process left is gone on with', async () => {
  const layer = randomBytes(100_000)
  registry.tag('app:1', registry.image([layer]).manifest)
  const ref = `layer-${sha256Of(layer)}`
  {
    const signal = new AbortController().signal
    const opening = { namespace: NS, lease: undefined, ref, expected: undefined, total: 100_000n }
    await using writer = await parts.ingests.open(opening, signal)
    await writer.append(layer.subarray(0, 40_000))
  }

  await pull()

  expect(registry.requests.some((line) => line.endsWith('bytes=40000-'))).toBe(true)
})

test('an ingest with wrong bytes in it is started again', async () => {
  const layer = randomBytes(100_000)
  registry.tag('app:1', registry.image([layer]).manifest)
  {
    const signal = new AbortController().signal
    const opening = { namespace: NS, lease: undefined, ref: `layer-${sha256Of(layer)}`, expected: undefined, total: 0n }
    await using writer = await parts.ingests.open(opening, signal)
    await writer.append(randomBytes(40_000))
  }

  await pull()

  expect(parts.blobs.has(NS, sha256Of(layer))).toBe(true)
})

test('a server error is tried again', async () => {
  registry.tag('app:1', registry.image(['one']).manifest)
  registry.misbehave(/blobs/, (_, response) => response.writeHead(503).end(), 2)

  await pull()

  expect(records.has('my-image')).toBe(true)
})

interface Broken {
  readonly name: string
  readonly pattern: RegExp
  readonly misbehave: Parameters<TestRegistry['misbehave']>[1]
  readonly code: string
  readonly message: RegExp
}

const HTML = '<html>please log in</html>'

test.each<Broken>([
  {
    name: 'other bytes than the digest says',
    pattern: /GET .*blobs/,
    misbehave: (_, response, body) => response.end(Buffer.alloc(body.length, 'x')),
    code: 'failed-precondition',
    message: /sends sha256:\w+ for sha256:/,
  },
  {
    name: 'a blob that is always short',
    pattern: /GET .*blobs/,
    misbehave: (_, response, body) =>
      response.writeHead(200, { 'content-length': body.length }).write('x', () => response.destroy()),
    code: 'unavailable',
    message: /Cannot fetch sha256:\w+: 127\.0\.0\.1:\d+/,
  },
  {
    name: 'a blob that promises another size',
    pattern: /GET .*blobs/,
    misbehave: (_, response) => response.end('short'),
    code: 'failed-precondition',
    message: /promises 5 bytes, not \d+/,
  },
  {
    name: 'a body without end',
    pattern: /GET .*(blobs|manifests\/sha)/,
    misbehave: (_, response) => {
      const more = (): void => void (response.writable && response.write(Buffer.alloc(65536), () => setImmediate(more)))
      response.writeHead(200)
      more()
    },
    code: 'failed-precondition',
    message: /sends more than the \d+ bytes promised/,
  },
  {
    name: 'a manifest that claims to be huge',
    pattern: /HEAD/,
    misbehave: (_, response) =>
      response
        .writeHead(200, {
          'content-type': MEDIA.ociManifest,
          'content-length': 2 ** 40,
          'docker-content-digest': sha256Of(''),
        })
        .end(),
    code: 'failed-precondition',
    message: /a manifest of 1099511627776 bytes/,
  },
  {
    name: 'a page instead of a manifest',
    pattern: /manifests/,
    misbehave: (_, response) => response.writeHead(200, { 'content-type': 'text/html' }).end(HTML),
    code: 'failed-precondition',
    message: /answers with "text\/html", not with a manifest/,
  },
  {
    name: 'a malformed digest',
    pattern: /HEAD/,
    misbehave: (_, response) =>
      response
        .writeHead(200, {
          'content-type': MEDIA.ociManifest,
          'content-length': 10,
          'docker-content-digest': 'sha256:../../x',
        })
        .end(),
    code: 'failed-precondition',
    message: /answers with a malformed digest/,
  },
  {
    name: 'errors without end',
    pattern: /GET .*blobs/,
    misbehave: (_, response) =>
      response.writeHead(500).end('{"errors":[{"code":"UNKNOWN","message":"Bearer abc.def lost?sig=1"}]}'),
    code: 'unavailable',
    message: /127\.0\.0\.1:\d+ answers 500: UNKNOWN: Bearer \*\*\* lost\?\*\*\*$/,
  },
  {
    name: 'silence',
    pattern: /GET .*blobs/,
    misbehave: () => undefined,
    code: 'unavailable',
    message: /it does not answer/,
  },
  {
    name: 'a body that stalls',
    pattern: /GET .*blobs/,
    misbehave: (_, response, body) => void response.writeHead(200, { 'content-length': body.length }).flushHeaders(),
    code: 'unavailable',
    message: /its answer stalled/,
  },
  {
    name: 'a wish for a password',
    pattern: /manifests/,
    misbehave: (_, response) => response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end(),
    code: 'unauthenticated',
    message: /it wants a name and a password/,
  },
  {
    name: 'redirects without end',
    pattern: /GET .*blobs/,
    misbehave: (request, response) => response.writeHead(307, { location: request.url ?? '' }).end(),
    code: 'failed-precondition',
    message: /more than 10 redirects/,
  },
])(
  'a registry that answers with $name fails the pull and leaves nothing',
  { timeout: 15_000 },
  async ({ pattern, misbehave, code, message }) => {
    registry.tag('app:1', registry.image(['some layer']).manifest)
    registry.misbehave(pattern, misbehave)

    await expect(pull()).rejects.toMatchObject({ code, message: expect.stringMatching(message) })
    await expectNothingLeft()
  },
)

test('an image that a verifier objects to leaves nothing: no record, no blob, no request for one', async () => {
  const { manifest } = registry.image(['one'])
  registry.tag('app:1', manifest)
  const asked: unknown[] = []
  const verify: VerifyImage = async (name, { digest }) => {
    asked.push([name, digest])
    throw new Fault('unknown', 'not signed')
  }

  await expect(pull({ verify })).rejects.toMatchObject({ code: 'unknown', message: 'not signed' })

  expect(asked).toEqual([[`${registry.host}/app:1`, manifest.digest]])
  expect(registry.requests).toEqual(['HEAD /v2/app/manifests/1'])
  expect([...parts.blobs.list(NS, [])]).toEqual([])
  await expectNothingLeft()
})

test('a reference nobody knows is named', async () => {
  await expect(pull()).rejects.toMatchObject({ code: 'not-found', message: `${registry.host}/app:1: not found` })
  await expectNothingLeft()
})

test('a registry that is down is named, with the reason', async () => {
  await expect(pull({ host: '127.0.0.1:1' })).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringMatching(/127\.0\.0\.1:1: connection refused/),
  })
  await expectNothingLeft()
})

test('a pull that is cancelled leaves nothing', async () => {
  registry.tag('app:1', registry.image(['some layer']).manifest)
  const hangup = new AbortController()
  registry.misbehave(/GET .*blobs/, () => hangup.abort())

  await expect(pull({ signal: hangup.signal })).rejects.toThrow()
  await expectNothingLeft()
})

test.each([
  ['a manifest with layers and manifests', { manifests: [] }, /it also lists manifests/],
  ['a manifest that calls itself an index', { mediaType: MEDIA.ociIndex }, /calls itself/],
  ['a manifest that calls itself by another type', { mediaType: MEDIA.dockerManifest }, /calls itself/],
])('CVE-2021-41190: %s is refused', async (_, extra, message) => {
  const config = registry.put(MEDIA.ociConfig, {})
  const document = { schemaVersion: 2, config: { ...config, size: Number(config.size) }, layers: [], ...extra }
  registry.tag('app:1', registry.put(MEDIA.ociManifest, document))

  await expect(pull()).rejects.toMatchObject({ code: 'failed-precondition', message: expect.stringMatching(message) })
  await expectNothingLeft()
})

test('CVE-2023-25153: what is here is no manifest because an index says so: its size is looked at first', async () => {
  const layer = Buffer.alloc(5_000_000)
  const digest = sha256Of(layer)
  {
    const signal = AbortSignal.timeout(10_000)
    const opening = { namespace: NS, lease: undefined, ref: 'layer', expected: undefined, total: 0n }
    await using writer = await parts.ingests.open(opening, signal)
    await writer.append(layer)
    await writer.commit({ total: 0n, expected: undefined, labels: {} }, signal)
  }
  registry.tag('app:1', registry.index([{ mediaType: MEDIA.ociManifest, digest, size: 100n }]))

  await expect(pull()).rejects.toMatchObject({
    code: 'failed-precondition',
    message: expect.stringMatching(/has 5000000 bytes, and is said to have 100/),
  })
})

test('CVE-2026-53493: indexes nested without measure are refused', async () => {
  let nested: Descriptor = registry.image(['deep']).manifest
  for (let depth = 0; depth < 6; depth++) nested = registry.index([nested])
  registry.tag('app:1', nested)

  await expect(pull()).rejects.toMatchObject({ code: 'failed-precondition', message: expect.stringMatching(/nested/) })
  await expectNothingLeft()
})

test('CVE-2024-3727: a malformed digest in a manifest never reaches a URL', async () => {
  const config = registry.put(MEDIA.ociConfig, {})
  const bad = { mediaType: MEDIA.ociLayer, digest: 'sha256:../../../../etc', size: 3 }
  const document = { schemaVersion: 2, config: { ...config, size: Number(config.size) }, layers: [bad] }
  registry.tag('app:1', registry.put(MEDIA.ociManifest, document))

  await expect(pull()).rejects.toMatchObject({
    code: 'failed-precondition',
    message: expect.stringMatching(/not a digest/),
  })
  expect(registry.requests.filter((line) => line.includes('etc'))).toEqual([])
})

test('an image is unpacked while its layers come, and named when it is', async () => {
  const { manifest, layers } = registry.image(['one'])
  registry.tag('app:1', manifest)
  const gate = Promise.withResolvers<void>()
  registry.misbehave(
    new RegExp(layers[0]?.digest ?? ''),
    (_, response) => void gate.promise.then(() => response.end('one')),
    1,
  )
  const order: string[] = []
  const tell = (what: string) => {
    const isHere = layers.every(({ digest }) => parts.blobs.has(NS, digest))
    order.push(`${what}: layers ${isHere ? 'here' : 'on the way'}, ${records.size} named`)
  }
  const unpacker: Unpacker = {
    plan: () => [{ platform: AMD64, snapshotter: 'overlayfs' }],
    begin: () => ({
      async add() {
        tell('unpacked')
        gate.resolve()
      },
      finish: async () => tell('finished'),
    }),
  }

  await pull({ unpacker })

  expect(order).toEqual(['unpacked: layers on the way, 0 named', 'finished: layers here, 0 named'])
  expect(records.size).toBe(1)
})

test.each(['the layer', 'the unpacking'])('what fails first is what a pull fails with: %s', async (what) => {
  const { manifest, layers } = registry.image(['one'])
  registry.tag('app:1', manifest)
  const begun = Promise.withResolvers<void>()
  registry.misbehave(
    new RegExp(layers[0]?.digest ?? ''),
    (_, response) => void (what === 'the layer' && begun.promise.then(() => response.writeHead(403).end())),
    1,
  )
  let stopped = false
  const unpacker: Unpacker = {
    plan: () => [{ platform: AMD64, snapshotter: 'overlayfs' }],
    begin: (_, { signal }) => ({
      async add() {
        begun.resolve()
        if (what === 'the unpacking') throw new Fault('invalid-argument', 'it is no archive')
        await new Promise((resolve) => signal.addEventListener('abort', resolve))
        stopped = true
        throw new Fault('cancelled', 'The call was cancelled')
      },
      finish: async () => undefined,
    }),
  }

  await expect(pull({ unpacker })).rejects.toMatchObject({
    code: what === 'the layer' ? 'permission-denied' : 'invalid-argument',
  })

  expect(stopped).toBe(what === 'the layer')
  expect(records.size).toBe(0)
})

test('the bytes of a blob can be read while it is still on its way', async () => {
  const bytes = randomBytes(3_000_000)
  const { manifest, layers } = registry.image([bytes])
  registry.tag('app:1', manifest)
  const digest = layers[0]?.digest ?? manifest.digest
  const gate = Promise.withResolvers<void>()
  registry.misbehave(
    new RegExp(digest),
    (_, response) => {
      response.writeHead(200, { 'content-length': bytes.length })
      response.write(bytes.subarray(0, 2_500_000))
      gate.promise.then(() => response.end(bytes.subarray(2_500_000)))
    },
    1,
  )
  const pulling = pull()
  const { signal } = new AbortController()
  while (!parts.growing.find(NS, digest)) await sleep(1) // the manifest comes first
  let seen = parts.growing.find(NS, digest)
  while (seen && seen.bytes < 1_000_000n) seen = await parts.growing.next(NS, digest, seen, signal)

  expect(parts.blobs.has(NS, digest)).toBe(false)
  const there = await readFile(seen?.path ?? '')
  const size = Number(seen?.bytes)
  expect(there.subarray(0, size).equals(bytes.subarray(0, size))).toBe(true)
  gate.resolve()
  while (seen) seen = await parts.growing.next(NS, digest, seen, signal)
  expect(parts.blobs.has(NS, digest)).toBe(true)
  await pulling
})

test(
  'what a manifest names is asked for while it is stored, and nothing is committed before the lease holds it',
  async () => {
    const { manifest, config, layers } = registry.image(['one', 'two'])
    registry.tag('app:1', manifest)
    const { promise: allowed, resolve: allow } = Promise.withResolvers<void>()
    const { hold } = parts.leases
    parts.leases.hold = async (...args) => await allowed.then(() => hold(...args))
    const all = [manifest.digest, config.digest, ...layers.map(({ digest }) => digest)]
    const asked = [config, ...layers].map(({ digest }) => `GET /v2/app/blobs/${digest}`)

    const pulled = pull({ signal: AbortSignal.timeout(LATE_MS) })
    await vi.waitFor(() => expect(registry.requests).toEqual(expect.arrayContaining(asked)), LATE_MS)
    const early = all.filter((digest) => parts.blobs.has(NS, digest))
    allow()
    await pulled

    expect(early).toEqual([])
    expect(all.filter((digest) => parts.blobs.has(NS, digest))).toEqual(all)
  },
  LATE_MS,
)

test.each([1000, 1_000_000])(
  'a blob of %i bytes is asked for while its upload is recorded, and not written before',
  async (size) => {
    const { manifest, config, layers } = registry.image([randomBytes(size)])
    registry.tag('app:1', manifest)
    const { promise: allowed, resolve: allow } = Promise.withResolvers<void>()
    const { write } = parts.changes
    let writes = 0
    parts.changes.write = async (...args) =>
      await (writes++ === 0 ? write(...args) : allowed.then(() => write(...args)))
    const asked = [config, ...layers].map(({ digest }) => `GET /v2/app/blobs/${digest}`)

    const pulled = pull({ signal: AbortSignal.timeout(LATE_MS) })
    await vi.waitFor(() => expect(registry.requests).toEqual(expect.arrayContaining(asked)), LATE_MS)
    const recorded = Array.from(parts.rows.ingests.list(), ({ value }) => value.id)
    const others = (await readdir(parts.folder.ingestFolder(''))).filter((id) => !recorded.includes(id))
    const sizes = await Promise.all(others.map(async (id) => (await stat(parts.folder.ingestPath(id))).size))
    allow()
    await pulled

    expect({ recorded: recorded.length, sizes }).toEqual({ recorded: 1, sizes: [0, 0] })
    expect(layers.map(({ digest }) => parts.blobs.has(NS, digest))).toEqual([true])
  },
  LATE_MS,
)

test.each([1000, 1_000_000])('a blob of %i bytes whose upload cannot be recorded is not fetched', async (size) => {
  const { manifest, layers } = registry.image([randomBytes(size)])
  registry.tag('app:1', manifest)
  const { write } = parts.changes
  const isRecorded = (layer: Descriptor) => parts.rows.ingests.has([NS, refKey(layer)])
  parts.changes.write = (fn) =>
    write((emit) => {
      const result = fn(emit)
      if (layers.some(isRecorded)) throw new Fault('resource-exhausted', 'the disk is full')
      return result
    })

  await expect(pull()).rejects.toMatchObject({ code: 'resource-exhausted', message: 'the disk is full' })

  await expectNothingLeft()
  expect(layers.map(({ digest }) => parts.blobs.has(NS, digest))).toEqual([false])
})

test('a lease that goes while a pull begins ends it, and nothing is left', async () => {
  const { manifest } = registry.image(['one', 'two'])
  registry.tag('app:1', manifest)
  parts.leases.hold = async () => Promise.reject(new Fault('not-found', 'lease "own": not found'))

  await expect(pull()).rejects.toMatchObject({ code: 'not-found' })

  await expectNothingLeft()
})
