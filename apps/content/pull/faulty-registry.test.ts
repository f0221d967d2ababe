/** What registries do wrong: each case ends well or in one clear fault, in time, and leaves nothing half done. */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import { gzipSync } from 'node:zlib'
import { type Descriptor, MEDIA } from '@gantry/model/descriptor'
import { sha256Of } from '@gantry/model/digest'
import { isFault } from '@gantry/model/fault'
import { parseNamespace } from '@gantry/model/namespace'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { STALL_MS } from '../testing/parts.ts'
import { openPuller, type Puller } from '../testing/puller.ts'
import type { TestRegistry } from '../testing/registry.ts'

type Misbehave = Parameters<TestRegistry['misbehave']>[1]

const DEADLINE_MS = 10_000
const SIZES = [
  ['an ordinary', 300_000],
  ['a large', 3_000_000], // received in another way
] as const
const HTML = '<!doctype html><title>It works</title>'
let puller: Puller

vi.setConfig({ testTimeout: 2 * DEADLINE_MS })

beforeEach(async () => {
  puller = await openPuller()
})
afterEach(() => puller[Symbol.asyncDispose]())

/** The fault that the pull ends with; it must be one of ours and not the deadline. */
async function faultOf(options: Parameters<Puller['pull']>[0] = {}) {
  const start = performance.now()
  const error = await puller.pull({ timeoutMs: DEADLINE_MS, ...options }).catch((error: unknown) => error)
  expect(performance.now() - start).toBeLessThan(DEADLINE_MS)
  if (!isFault(error)) throw error ?? new Error('The pull went well')
  expect(await puller.left()).toEqual({ records: [], ingests: [], folders: [], leases: [] })
  return error
}

const partOf = (request: IncomingMessage): number => Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0)
const cutAfter =
  (bytes: number): Misbehave =>
  (_, response, body) => {
    response.writeHead(200, { 'content-length': body.length })
    response.write(body.subarray(0, bytes), () => setTimeout(() => response.destroy(), 20))
  }
const drip =
  (status: number): Misbehave =>
  (_, response, body) => {
    response.writeHead(status, { 'content-type': MEDIA.ociManifest, 'content-length': body.length })
    let at = 0
    const timer = setInterval(() => response.write(body.subarray(at, ++at)), STALL_MS / 3)
    response.on('close', () => clearInterval(timer))
  }

interface Passing {
  readonly name: string
  readonly first?: Misbehave
  readonly second?: Misbehave
  readonly pattern?: RegExp
}

interface Failing {
  readonly name: string
  readonly misbehave: Misbehave
  readonly pattern?: RegExp
  readonly code: string
  readonly message?: RegExp
}

const jsonBomb = `${'['.repeat(200_000)}${']'.repeat(200_000)}`

/** Answers every request for the manifest with this document, as whatever it says it is. */
const sendManifest =
  (body: string, mediaType: string = MEDIA.ociManifest): Misbehave =>
  (request, response) => {
    const digest = sha256Of(body)
    const headers = { 'content-type': mediaType, 'content-length': body.length, 'docker-content-digest': digest }
    response.writeHead(200, headers).end(request.method === 'HEAD' ? undefined : body)
  }

describe.each(SIZES)('%s layer', (_, size) => {
  const LAYER = randomBytes(size)
  const LAYERS = new RegExp(`GET .*blobs/${sha256Of(LAYER)}`)
  const isNew = ({ pattern }: { readonly pattern?: RegExp }) => size === 300_000 || !pattern // documents are all alike

  beforeEach(() => void puller.registry.tag('app:1', puller.registry.image([LAYER]).manifest))

  async function expectPulled(): Promise<void> {
    expect(puller.parts.blobs.has(puller.namespace, sha256Of(LAYER))).toBe(true)
    expect(await puller.left()).toEqual({ records: ['my-image'], ingests: [], folders: [], leases: [] })
  }

  test.each<Passing>([
    { name: 'the connection is reset in the middle', first: cutAfter(100_000) },
    { name: 'the connection is reset before an answer', first: (request) => request.socket.resetAndDestroy() },
    {
      name: 'the body ends early without a word',
      first: (_, response, body) => response.writeHead(200).end(body.subarray(0, 100_000)),
    },
    {
      name: 'too many requests, try later',
      first: (_, response) => response.writeHead(429, { 'retry-after': '0' }).end(),
      pattern: /GET/,
    },
    {
      name: 'a date to try later that is nonsense',
      first: (_, response) => response.writeHead(429, { 'retry-after': 'soon' }).end(),
    },
    { name: 'a gateway without a server', first: (_, response) => response.writeHead(502).end(HTML) },
    { name: 'a gateway that waited in vain', first: (_, response) => response.writeHead(504).end(HTML) },
    { name: 'a timeout of the request', first: (_, response) => response.writeHead(408).end() },
    {
      name: 'all the bytes although only the rest was asked for',
      first: cutAfter(100_000),
      second: (_, response, body) => response.writeHead(200, { 'content-length': body.length }).end(body),
    },
  ])('$name: the pull goes well', async ({ first, second, pattern = LAYERS }) => {
    if (first) puller.registry.misbehave(pattern, first, 1)
    if (second) puller.registry.misbehave(LAYERS, second, 1)

    await puller.pull()

    await expectPulled()
  })

  const failing: Failing[] = [
    {
      name: 'the connection is reset, always',
      misbehave: (request) => request.socket.resetAndDestroy(),
      code: 'unavailable',
    },
    {
      name: 'the connection is reset at every resolve',
      misbehave: (request) => request.socket.resetAndDestroy(),
      pattern: /manifests/,
      code: 'unavailable',
    },
    {
      name: 'the body is always short, without a word',
      misbehave: (request, response, body) =>
        response.writeHead(partOf(request) > 0 ? 416 : 200).end(body.subarray(0, 9)),
      code: 'failed-precondition',
    },
    {
      name: 'the body is one byte too long',
      misbehave: (_, response, body) => response.writeHead(200).end(Buffer.concat([body, Buffer.from('x')])),
      code: 'failed-precondition',
      message: /sends more than the \d+ bytes promised/,
    },
    {
      name: 'another blob of the same size',
      misbehave: (_, response, body) => response.end(randomBytes(body.length)),
      code: 'failed-precondition',
      message: /sends sha256:\w+ for sha256:/,
    },
    {
      name: 'too many requests, always',
      misbehave: (_, response) => response.writeHead(429, { 'retry-after': '0' }).end(),
      code: 'unavailable',
      message: /answers 429/,
    },
    ...[500, 502, 503, 504].map((status) => ({
      name: `${status}, always`,
      misbehave: ((_, response) => response.writeHead(status).end(HTML)) satisfies Misbehave,
      code: 'unavailable',
      message: new RegExp(`answers ${status}`),
    })),
    {
      name: 'forbidden',
      misbehave: (_, response) => response.writeHead(403).end(),
      code: 'permission-denied',
    },
    { name: 'gone', misbehave: (_, response) => response.writeHead(410).end(), code: 'failed-precondition' },
    { name: 'no content', misbehave: (_, response) => response.writeHead(204).end(), code: 'failed-precondition' },
    { name: 'a body that drips', misbehave: drip(200), code: 'unavailable', message: /bytes in \d+ s/ },
    { name: 'a manifest that drips', pattern: /GET .*manifests/, misbehave: drip(200), code: 'unavailable' },
    {
      name: 'a manifest that drips before anything is known of it',
      pattern: /manifests/,
      misbehave: (request, response, body) =>
        request.method === 'HEAD' ? response.writeHead(405).end() : drip(200)(request, response, body),
      code: 'unavailable',
    },
    { name: 'a refusal that drips', misbehave: drip(403), code: 'permission-denied' },
    {
      name: 'one byte a connection',
      misbehave: (request, response, body) => {
        const from = partOf(request)
        const range = `bytes ${from}-${body.length - 1}/${body.length}`
        response.writeHead(206, { 'content-range': range, 'content-length': body.length - from })
        response.write(body.subarray(from, from + 1), () => response.destroy())
      },
      code: 'unavailable',
    },
    {
      name: 'headers without end',
      misbehave: (_, response, body) => response.writeHead(200, { 'x-much': 'x'.repeat(100_000) }).end(body),
      code: 'failed-precondition',
    },
    {
      name: 'compressed bytes that nobody wanted',
      misbehave: (_, response, body) => response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(body)),
      code: 'failed-precondition',
      message: /encoding "gzip"/,
    },
    {
      name: 'a redirect to a file',
      misbehave: (_, response) => response.writeHead(307, { location: 'file:///etc/passwd' }).end(),
      code: 'failed-precondition',
      message: /redirects to nowhere/,
    },
    {
      name: 'a redirect without a target',
      misbehave: (_, response) => response.writeHead(307).end(),
      code: 'failed-precondition',
    },
    {
      name: 'a redirect to a host that is not there',
      misbehave: (_, response) => response.writeHead(307, { location: 'http://127.0.0.1:1/x' }).end(),
      code: 'unavailable',
      message: /connection refused/,
    },
    {
      name: 'HTML for a manifest',
      pattern: /manifests/,
      misbehave: sendManifest(HTML),
      code: 'failed-precondition',
      message: /manifest/,
    },
    {
      name: 'brackets without end for a manifest',
      pattern: /manifests/,
      misbehave: sendManifest(jsonBomb),
      code: 'failed-precondition',
    },
    ...[
      'null',
      '[]',
      '""',
      '7',
      '{}',
      '{"layers":[]}',
      '{"config":7,"layers":7}',
      '{"schemaVersion":1,"fsLayers":[]}',
    ].map((document) => ({
      name: `the manifest ${document}`,
      pattern: /manifests/,
      misbehave: sendManifest(document),
      code: 'failed-precondition',
    })),
    {
      name: 'a manifest without end',
      pattern: /manifests/,
      misbehave: (request, response) => {
        response.writeHead(200, { 'content-type': MEDIA.ociManifest })
        const more = (): void =>
          void (response.writable && response.write(Buffer.alloc(65536, ' '), () => setImmediate(more)))
        if (request.method === 'HEAD') response.end()
        else more()
      },
      code: 'failed-precondition',
      message: /more than \d+ bytes/,
    },
    {
      name: 'an index that says it contains itself',
      pattern: /manifests/,
      misbehave: (request, response) => {
        const digest = sha256Of('there is no text that contains its own digest')
        const self = { mediaType: MEDIA.ociIndex, digest, size: 300 }
        const body = JSON.stringify({ schemaVersion: 2, manifests: [self] }).padEnd(300)
        const headers = { 'content-type': MEDIA.ociIndex, 'content-length': 300, 'docker-content-digest': digest }
        response.writeHead(200, headers).end(request.method === 'HEAD' ? undefined : body)
      },
      code: 'failed-precondition',
      message: /sends sha256:\w+ for sha256:/,
    },
    {
      name: 'CVE-2021-41190: a manifest sent as an index',
      pattern: /manifests/,
      misbehave: sendManifest('{"schemaVersion":2,"config":{},"layers":[]}', MEDIA.ociIndex),
      code: 'failed-precondition',
    },
    {
      name: 'CVE-2021-41190: an index with layers',
      pattern: /manifests/,
      misbehave: sendManifest('{"schemaVersion":2,"manifests":[],"layers":[]}', MEDIA.ociIndex),
      code: 'failed-precondition',
      message: /it also has layers/,
    },
    {
      name: 'CVE-2021-41190: a Content-Type that disagrees with the mediaType',
      pattern: /manifests/,
      misbehave: sendManifest(JSON.stringify({ mediaType: MEDIA.dockerIndex, manifests: [] }), MEDIA.ociIndex),
      code: 'failed-precondition',
      message: /calls itself/,
    },
  ]

  test.each(failing.filter(isNew))(
    '$name: one clear fault',
    async ({ pattern = LAYERS, misbehave, code, message = /./ }) => {
      puller.registry.misbehave(pattern, misbehave)

      expect(await faultOf()).toMatchObject({ code, message: expect.stringMatching(message) })

      expect(puller.parts.blobs.has(puller.namespace, sha256Of(LAYER))).toBe(false)
    },
  )

  /** The first answer breaks off after 100,000 bytes, so that the rest is asked for. */
  test.each<Failing>([
    {
      name: 'of another range',
      misbehave: (_, response, body) =>
        response.writeHead(206, { 'content-range': `bytes 5-${body.length - 1}/${body.length}` }).end(body.subarray(5)),
      code: 'failed-precondition',
      message: /another range/,
    },
    {
      name: 'without a range',
      misbehave: (_, response, body) => response.writeHead(206).end(body.subarray(100_000)),
      code: 'failed-precondition',
      message: /another range/,
    },
    {
      name: 'of the right range with other bytes in it',
      misbehave: (_, response, body) =>
        response
          .writeHead(206, { 'content-range': `bytes 100000-${body.length - 1}/${body.length}` })
          .end(randomBytes(body.length - 100_000)),
      code: 'failed-precondition',
      message: /sends sha256:\w+ for/,
    },
    {
      name: 'that is longer than the range',
      misbehave: (_, response, body) =>
        response.writeHead(206, { 'content-range': `bytes 100000-${body.length - 1}/${body.length}` }).end(body),
      code: 'failed-precondition',
      message: /sends more than the \d+ bytes promised/,
    },
    {
      name: 'in many parts',
      misbehave: (_, response) =>
        response.writeHead(206, { 'content-type': 'multipart/byteranges; boundary=x' }).end('--x\r\n\r\n--x--'),
      code: 'failed-precondition',
      message: /another range/,
    },
    {
      name: 'that there is no such range',
      misbehave: (_, response) => response.writeHead(416).end(),
      code: 'failed-precondition',
      message: /answers 416/,
    },
  ])('an answer $name, and not of the rest: one clear fault', async ({ misbehave, code, message = /./ }) => {
    puller.registry.misbehave(LAYERS, cutAfter(100_000), 1)
    puller.registry.misbehave(LAYERS, misbehave)

    expect(await faultOf()).toMatchObject({ code, message: expect.stringMatching(message) })
  })

  test('CVE-2020-15157: another host that blobs are redirected to gets them asked for, and no secret', async () => {
    const seen: IncomingMessage[] = []
    const storage = createServer((request, response) => {
      seen.push(request)
      response.writeHead(200, { 'content-length': LAYER.length }).end(LAYER)
    }).listen(0, '127.0.0.1')
    await once(storage, 'listening')
    const address = storage.address()
    const location = `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}/signed?sig=1`
    puller.registry.misbehave(LAYERS, (_, response) => response.writeHead(307, { location }).end())

    await puller.pull({ headers: { authorization: 'Bearer secret', 'x-team-key': 'secret', cookie: 'secret' } })

    await expectPulled()
    expect(seen.map(({ url }) => url)).toEqual(['/signed?sig=1'])
    expect(JSON.stringify(seen.map(({ rawHeaders }) => rawHeaders))).not.toContain('secret')
    storage.closeAllConnections()
    storage.close()
  })
})

test('who may have nothing of others does not wait for what they bring', async () => {
  await using patient = await openPuller({ stallMs: DEADLINE_MS })
  const layer = 'a layer'
  patient.registry.tag('app:1', patient.registry.image([layer]).manifest)
  const asked = Promise.withResolvers<void>()
  patient.registry.misbehave(new RegExp(sha256Of(layer)), () => asked.resolve(), 1)
  const stop = new AbortController()
  const stuck = patient.pull({ isolatedIn: parseNamespace('a'), signal: stop.signal })
  await asked.promise

  await patient.pull({ isolatedIn: parseNamespace('b') })

  expect(patient.parts.blobs.has(parseNamespace('b'), sha256Of(layer))).toBe(true)
  stop.abort()
  await expect(stuck).rejects.toThrow()
})

test('a client that is at an upload holds up pulls of its own namespace alone', async () => {
  const { registry, parts, namespace } = puller
  const { manifest, config, layers } = registry.image(['a layer'])
  registry.tag('app:1', manifest)
  const [layer] = layers
  const ref = `layer-${layer?.digest}`
  const opening = { namespace, lease: undefined, ref, expected: undefined, total: 0n }
  const client = await parts.ingests.open(opening, AbortSignal.timeout(DEADLINE_MS))
  const asked = Promise.withResolvers<void>()
  const done: string[] = []
  registry.misbehave(new RegExp(config.digest), (_, response, body) => asked.resolve() ?? response.end(body), 1)
  const waiting = puller.pull().then(() => done.push('mine'))
  await asked.promise

  await puller.pull({ into: parseNamespace('b') }).then(() => done.push('theirs'))
  await client.discard()
  await waiting

  expect(done).toEqual(['theirs', 'mine'])
})

test('a 401 loop ends: a token that is never good enough is one clear fault', async () => {
  let tokens = 0
  puller.registry.misbehave(/\/token/, (_, response) => response.end(JSON.stringify({ token: `t${++tokens}` })))
  puller.registry.misbehave(/manifests/, (_, response) => {
    const challenge = `Bearer realm="http://${puller.registry.host}/token",service="s"`
    response.writeHead(401, { 'www-authenticate': challenge }).end()
  })

  expect(await faultOf()).toMatchObject({ code: 'unauthenticated' })
  expect(tokens).toBeLessThan(5)
})

test('CVE-2026-53493: an index as wide as it likes is refused before its children are asked for', async () => {
  const { registry } = puller
  const { manifest } = registry.image(['one'])
  registry.tag('app:1', registry.index(Array.from({ length: 5000 }, () => manifest)))

  expect(await faultOf()).toMatchObject({ code: 'failed-precondition' })
  expect(registry.requests).toHaveLength(2)
})

test('CVE-2026-53493: wide indexes inside wide indexes end at a number of parts, soon', {
  timeout: 20_000,
}, async () => {
  const { registry } = puller
  let nested: Descriptor = registry.image(['one']).manifest
  for (let depth = 0; depth < 3; depth++) nested = registry.index(Array.from({ length: 1000 }, () => nested))
  registry.tag('app:1', nested)

  expect(await faultOf()).toMatchObject({
    code: 'failed-precondition',
    message: expect.stringMatching(/too large together/),
  })
  expect(registry.requests.length).toBeLessThan(20)
})

test('a layer that is named a thousand times is fetched once', async () => {
  const { registry } = puller
  const layers = Array.from({ length: 1000 }, () => 'layer')
  registry.tag('app:1', registry.image(layers).manifest)

  await puller.pull()

  expect(registry.requests.filter((line) => line.startsWith('GET') && line.endsWith(sha256Of('layer')))).toHaveLength(1)
})

const DIGEST = 'a'.repeat(64)
test.each([
  ['no digest', 'latest'],
  ['a path', 'sha256:../../../../etc/passwd'],
  ['a path behind a digest', `sha256:${DIGEST}/../../x`],
  ['capitals', `sha256:${DIGEST.toUpperCase()}`],
  ['another algorithm', `md5:${'a'.repeat(32)}`],
  ['a query', `sha256:${DIGEST}?x=1`],
  ['a new line', `sha256:${DIGEST}\n`],
  ['too few digits', `sha256:${DIGEST.slice(1)}`],
  ['too many digits', `sha256:${DIGEST}a`],
  ['nothing', ''],
])('CVE-2024-3727: %s for a digest never reaches a URL or a path', async (_, digest) => {
  const { registry } = puller
  const bad = { mediaType: MEDIA.ociConfig, digest, size: 2 }
  const good = { mediaType: MEDIA.ociConfig, digest: sha256Of('{}'), size: 2 }
  registry.put(MEDIA.ociConfig, '{}')
  const places = [
    [MEDIA.ociManifest, { schemaVersion: 2, config: bad, layers: [] }],
    [MEDIA.ociManifest, { schemaVersion: 2, config: good, layers: [bad] }],
    [MEDIA.ociManifest, { schemaVersion: 2, config: good, layers: [], subject: bad }],
    [MEDIA.ociIndex, { schemaVersion: 2, manifests: [{ ...bad, mediaType: MEDIA.ociManifest }] }],
  ] as const
  for (const [mediaType, document] of places) {
    registry.tag('app:1', registry.put(mediaType, document))
    expect(await faultOf()).toMatchObject({ code: 'failed-precondition' })
  }

  const asked = registry.requests.filter(
    (line) => !/\/(manifests\/1|(manifests|blobs)\/sha256:[0-9a-f]{64})$/.test(line),
  )
  expect(asked).toEqual([])
})

test.each([
  ['is negative', -1],
  ['is a fraction', 1.5],
  ['is beyond all numbers', 1e300],
  ['is text', '5'],
  ['is zero', 0],
])('a size that %s is refused', async (_, size) => {
  const { registry } = puller
  const config = { mediaType: MEDIA.ociConfig, digest: sha256Of('{}'), size: 2 }
  registry.put(MEDIA.ociConfig, '{}')
  const layer = { mediaType: MEDIA.ociLayer, digest: sha256Of('layer'), size }
  registry.tag('app:1', registry.put(MEDIA.ociManifest, { schemaVersion: 2, config, layers: [layer] }))

  expect(['failed-precondition', 'invalid-argument']).toContain((await faultOf()).code)
})
