/** Large blobs that come in parts: what is asked for, what a kill leaves, and what registries do wrong with ranges. */
import { randomBytes } from 'node:crypto'
import { copyFileSync, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { sha256Of } from '@gantry/model/digest'
import { refKey } from '@gantry/model/refkey'
import { expect, test, vi } from 'vitest'
import { openPuller, type Puller } from '../testing/puller.ts'
import { partOf, type TestRegistry } from '../testing/registry.ts'

type Misbehave = Parameters<TestRegistry['misbehave']>[1]

const MIB = 1024 * 1024
const LAYER = randomBytes(17 * MIB)
const DIGEST = sha256Of(LAYER)
const PARTS = ['bytes=0-8388607', 'bytes=8388608-16777215', 'bytes=16777216-']
const OF_LAYER = new RegExp(`GET .*${DIGEST}`)
const LIMIT_MS = 20_000
const STEP = 64 * 1024 // bytes that are sent together
const STEP_MS = 5

vi.setConfig({ testTimeout: 2 * LIMIT_MS })

async function openPullerOfLayer(options: { downloads?: number } = {}) {
  const puller = await openPuller({ stallMs: LIMIT_MS, ...options })
  const { manifest, layers } = puller.registry.image([LAYER])
  puller.registry.tag('app:1', manifest)
  const [layer] = layers
  if (!layer) throw new Error('The image has no layer')
  return { puller, layer, [Symbol.asyncDispose]: () => puller[Symbol.asyncDispose]() }
}

/** The ranges of the layer that were asked for; `all` for all of it. */
const asked = ({ registry }: Puller): string[] =>
  registry.requests.filter((line) => OF_LAYER.test(line)).map((line) => /bytes=.*/.exec(line)?.[0] ?? 'all')

/** Answers as it should, but slowly for as long as `until` is not so: in less than the half of a part. */
const slowly =
  (until: (request: IncomingMessage) => boolean): Misbehave =>
  (request, response, body) => {
    const { status, headers, part } = partOf(request, body)
    response.writeHead(status, headers)
    let at = 0
    const timer = setInterval(() => {
      const end = until(request) ? part.length : Math.min(at + STEP, part.length / 2)
      if (end > at) response.write(part.subarray(at, end))
      at = end
      if (at === part.length) response.end()
    }, STEP_MS)
    response.on('close', () => clearInterval(timer))
  }

async function expectPulled({ parts, namespace, left }: Puller): Promise<void> {
  expect(readFileSync(parts.blobs.locate(namespace, DIGEST).path).equals(LAYER)).toBe(true)
  expect(await left()).toEqual({ records: ['my-image'], ingests: [], folders: [], leases: [] })
}

test('a large layer alone comes in parts side by side, each asked for once', async () => {
  await using setup = await openPullerOfLayer()
  const { puller } = setup
  puller.registry.misbehave(
    OF_LAYER,
    slowly(() => asked(puller).length >= 3),
  ) // none ends before all are asked for

  await puller.pull({ timeoutMs: LIMIT_MS })

  expect(asked(puller).sort()).toEqual(PARTS.toSorted())
  await expectPulled(puller)
})

test('without a connection to spare it comes in one piece', async () => {
  await using setup = await openPullerOfLayer({ downloads: 1 })
  const { puller } = setup

  await puller.pull()

  expect(asked(puller)).toEqual(['all'])
  await expectPulled(puller)
})

test('only what comes before the first gap can be used, and is all that counts after a kill', async () => {
  await using setup = await openPullerOfLayer()
  const { puller, layer } = setup
  const { parts, namespace, registry } = puller
  const ingests = join(parts.root, 'content', 'ingest')
  const dataOf = () => readdirSync(ingests).map((id) => join(ingests, id, 'data'))
  const sizes = () => dataOf().map((path) => statSync(path, { throwIfNoEntry: false })?.size)
  registry.misbehave(
    OF_LAYER,
    slowly(({ headers }) => asked(puller).length >= 3 && headers.range !== PARTS[1]),
    3,
  )
  const stop = new AbortController()
  const pulling = puller.pull({ signal: stop.signal }).catch(() => 'stopped')
  const used = () => Number(parts.growing.find(namespace, DIGEST)?.bytes ?? 0)
  await vi.waitUntil(() => sizes().includes(LAYER.length) && used() > 8 * MIB, { timeout: LIMIT_MS })
  const front = used()
  const [data = ''] = dataOf().filter((path) => statSync(path).size === LAYER.length)
  mkdirSync(join(parts.root, 'killed'))
  for (const name of ['front', 'data']) copyFileSync(join(data, '..', name), join(parts.root, 'killed', name))
  stop.abort()
  expect(await pulling).toBe('stopped')

  expect(front).toBeLessThan(13 * MIB) // half of the second part
  expect(Number(readFileSync(join(parts.root, 'killed', 'front'), 'utf8'))).toBe(front)
  expect(await puller.left()).toEqual({ records: [], ingests: [], folders: [], leases: [] })

  const opening = { namespace, lease: undefined, ref: refKey(layer), expected: layer.digest, total: layer.size }
  await using writer = await parts.ingests.open(opening, stop.signal)
  const [id = ''] = readdirSync(ingests)
  await writer[Symbol.asyncDispose]()
  for (const name of ['front', 'data']) copyFileSync(join(parts.root, 'killed', name), join(ingests, id, name))
  expect(await parts.ingests.status(namespace, opening.ref)).toMatchObject({ offset: BigInt(front) })
  registry.requests.length = 0
  await puller.pull()

  expect(asked(puller)).toEqual([`bytes=${front}-`])
  await expectPulled(puller)
})

const answer =
  (status: number, headers: Record<string, string>, from = 0): Misbehave =>
  (_, response, body) =>
    response.writeHead(status, headers).end(body.subarray(from, 8 * MIB))
const otherBytes: Misbehave = (request, response, body) => {
  const { status, headers, part } = partOf(request, body)
  response.writeHead(status, headers).end(Buffer.alloc(part.length))
}
const [first = ''] = PARTS

test.each<{ name: string; misbehave: Misbehave }>([
  { name: 'all of it', misbehave: (_, response, body) => response.writeHead(200).end(body) },
  { name: 'another range', misbehave: answer(206, { 'content-range': `bytes 5-8388612/${LAYER.length}` }, 5) },
  { name: 'less than was asked for', misbehave: answer(206, { 'content-range': `bytes 0-99/${LAYER.length}` }) },
  { name: 'that there is no such range', misbehave: answer(416, {}) },
])('a registry that answers $name is asked for one piece', async ({ misbehave }) => {
  await using setup = await openPullerOfLayer()
  const { puller } = setup
  puller.registry.misbehave(OF_LAYER, misbehave, 1)

  await puller.pull()

  expect(asked(puller)).toEqual([first, 'all'])
  await expectPulled(puller)
})

test('a registry that answers one request at a time is asked for the rest in one piece', async () => {
  await using setup = await openPullerOfLayer()
  const { puller } = setup
  const refused = new Set<string>()
  const slow = slowly(() => refused.size > 0)
  puller.registry.misbehave(OF_LAYER, (request, response, body) => {
    const { range = '' } = request.headers
    if (!range.endsWith('-') && range !== first) response.writeHead(429).end(() => refused.add(range))
    else slow(request, response, body)
  })

  await puller.pull({ timeoutMs: LIMIT_MS })

  expect(asked(puller).at(-1)).toMatch(/^(all|bytes=\d+-)$/)
  await expectPulled(puller)
})

test('a part that breaks off is taken up where it broke', async () => {
  await using setup = await openPullerOfLayer()
  const { puller } = setup
  puller.registry.misbehave(
    OF_LAYER,
    (request, response, body) =>
      response
        .writeHead(206, partOf(request, body).headers)
        .write(body.subarray(0, MIB), () => setTimeout(() => response.destroy(), 20)),
    1,
  )

  await puller.pull()

  expect(asked(puller)).toContainEqual(expect.stringMatching(/^bytes=[1-9]\d{0,6}-8388607$/))
  await expectPulled(puller)
})

test('other bytes under the right range: all is asked for once more, in one piece, and then refused', async () => {
  await using setup = await openPullerOfLayer()
  const { puller } = setup
  const slow = slowly(() => asked(puller).length >= 3)
  puller.registry.misbehave(
    OF_LAYER,
    (request, ...rest) => (request.headers.range === PARTS[1] ? otherBytes : slow)(request, ...rest),
    3,
  )
  await puller.pull({ timeoutMs: LIMIT_MS })
  expect(asked(puller).at(-1)).toBe('all')
  await expectPulled(puller)

  await using liar = await openPullerOfLayer()
  liar.puller.registry.misbehave(OF_LAYER, (request, ...rest) =>
    (request.headers.range === first ? slowly(() => asked(liar.puller).length >= 3) : otherBytes)(request, ...rest),
  )
  await expect(liar.puller.pull({ timeoutMs: LIMIT_MS })).rejects.toThrow(/sends sha256:\w+ for/)
  expect(await liar.puller.left()).toEqual({ records: [], ingests: [], folders: [], leases: [] })
})
