import type { IncomingMessage, ServerResponse } from 'node:http'
import { type Descriptor, MEDIA } from '@gantry/model/descriptor'
import { sha256Of } from '@gantry/model/digest'
import { parseReference } from '@gantry/model/reference'
import { expect, onTestFinished, test } from 'vitest'
import { startServer } from '../testing/server.ts'
import type { Hosts } from './hosts.ts'
import type { Capability } from './hosts-file.ts'
import { createRegistry } from './registry.ts'
import { createTransport } from './transport.ts'

const BLOB = Buffer.from('some bytes')
const LAYER: Descriptor = { mediaType: MEDIA.ociLayer, digest: sha256Of(BLOB), size: BigInt(BLOB.length) }
const MANIFEST = '{"schemaVersion":2}'
const SUBJECT = sha256Of(Buffer.from('subject'))
const signal = AbortSignal.timeout(120_000)

type Answer = (request: IncomingMessage, response: ServerResponse) => unknown

const down = '127.0.0.1:1'
const status =
  (code: number): Answer =>
  (_, response) =>
    response.writeHead(code).end()
const blob: Answer = (_, response) => response.end(BLOB)
const manifest: Answer = (_, response) => response.writeHead(200, { 'content-type': MEDIA.ociManifest }).end(MANIFEST)

async function start(answer: Answer): Promise<{ address: string; seen: string[] }> {
  const seen: string[] = []
  const address = await startServer(onTestFinished, (request, response) => {
    seen.push(`${request.method} ${decodeURIComponent(request.url ?? '')}`)
    answer(request, response)
  })
  return { address, seen }
}

/** A registry whose images are asked for at these addresses; the last one is its own. */
function open(addresses: readonly string[], capabilities: Readonly<Record<string, readonly Capability[]>> = {}) {
  const transport = createTransport({ proxy: { httpProxy: '', httpsProxy: '', noProxy: '' }, stallMs: 1000 })
  onTestFinished(async () => await transport[Symbol.asyncDispose]())
  const hosts: Hosts = async ({ host }) =>
    addresses.map((address, at) => ({
      ...{ host, origin: `http://${address}`, prefix: '/v2', own: at === addresses.length - 1, from: 'a test' },
      capabilities: capabilities[address] ?? ['pull', 'resolve', 'push', 'referrers'],
      ...{ headers: {}, dial: { ca: [], clients: [], skipVerify: false, timeoutMs: undefined } },
    }))
  const registry = createRegistry({ transport, now: Date.now, stallMs: 1000, backoffMs: 1, hosts })
  const source = { reference: parseReference('reg.test/team/app:1'), defaultScheme: 'http', headers: {} }
  return {
    resolve: () => registry.resolve(source, signal),
    referrers: (artifactType = '') => registry.referrers(source, { digest: SUBJECT, artifactType }, signal),
    async fetch(descriptor = LAYER, range: Parameters<typeof registry.fetch>[2] = 0n) {
      const chunks = []
      for await (const chunk of registry.fetch(source, descriptor, range, signal)) chunks.push(chunk)
      return Buffer.concat(chunks).toString()
    },
  }
}

test.each([
  ['is down', undefined],
  ['has nothing', status(404)],
  ['is overloaded', status(503)],
  ['wants a password', status(401)],
  ['refuses', status(403)],
])('a mirror that %s is passed over', async (_what, answer) => {
  const mirror = answer ? (await start(answer)).address : down
  const own = await start((request, response) =>
    (request.url?.includes('manifests') ? manifest : blob)(request, response),
  )

  const { resolve, fetch } = open([mirror, own.address])

  expect(await resolve()).toMatchObject({ digest: sha256Of(Buffer.from(MANIFEST)) })
  expect(await fetch()).toBe('some bytes')
})

test('a blob that breaks off at a mirror is gone on with at the next one', async () => {
  const mirror = await start((_, response) => {
    response.writeHead(200, { 'content-length': BLOB.length })
    response.write(BLOB.subarray(0, 4), () => response.destroy())
  })
  const ranges: unknown[] = []
  const own = await start(({ headers: { range } }, response) => {
    ranges.push(range)
    response.writeHead(206, { 'content-range': `bytes 4-${BLOB.length - 1}/${BLOB.length}` }).end(BLOB.subarray(4))
  })

  expect(await open([mirror.address, own.address]).fetch()).toBe('some bytes')
  expect(ranges).toEqual(['bytes=4-'])
})

test('what the last one says counts, and what went wrong before is told', async () => {
  const own = await start(status(404))

  await expect(open([down, own.address]).resolve()).rejects.toMatchObject({
    code: 'not-found',
    message: expect.stringMatching(/^reg\.test\/team\/app:1: not found \(before that: .*connection refused/),
  })
})

test('a mirror that may not resolve is not asked for tags', async () => {
  const mirror = await start(blob)
  const own = await start(manifest)
  const { resolve, fetch } = open([mirror.address, own.address], { [mirror.address]: ['pull'] })

  await resolve()
  expect(mirror.seen).toEqual([])
  await fetch()
  expect(mirror.seen).toEqual([`GET /v2/team/app/blobs/${LAYER.digest}?ns=reg.test`])
})

test('when nobody may be asked the file is to blame', async () => {
  await expect(open([down], { [down]: ['push'] }).resolve()).rejects.toMatchObject({
    code: 'failed-precondition',
    message: 'Cannot use reg.test: a test names no host for pull and resolve',
  })
})

test('a registry that knows no HEAD is asked by GET, and why it refuses is read there', async () => {
  const own = await start((request, response) =>
    (request.method === 'HEAD' ? status(405) : manifest)(request, response),
  )
  expect(await open([own.address]).resolve()).toMatchObject({ mediaType: MEDIA.ociManifest, size: 19n })

  const closed = await start((_, response) =>
    response.writeHead(403).end('{"errors":[{"code":"DENIED","message":"not yours"}]}'),
  )
  await expect(open([closed.address]).resolve()).rejects.toMatchObject({
    code: 'permission-denied',
    message: expect.stringMatching(/answers 403: DENIED: not yours$/),
  })
})

test('a part of a blob is fetched alone', async () => {
  const own = await start(({ headers: { range } }, response) =>
    range === 'bytes=2-5'
      ? response.writeHead(206, { 'content-range': 'bytes 2-5/10' }).end(BLOB.subarray(2, 6))
      : response.writeHead(400).end(),
  )
  const whole = await start(blob)

  expect(await open([own.address]).fetch(LAYER, { from: 2n, to: 6n })).toBe('me b')
  await expect(open([whole.address]).fetch(LAYER, { from: 2n, to: 6n })).rejects.toMatchObject({
    code: 'unimplemented',
  })
})

test('a foreign layer comes from where its image says, asked as a stranger', async () => {
  const seen: IncomingMessage[] = []
  const foreign = await start((request, response) => seen.push(request) && response.end(BLOB))
  const own = await start(status(404))
  const url = `http://me:pw@${foreign.address}/layer`
  const layer = { ...LAYER, mediaType: MEDIA.dockerForeignLayer, urls: ['file:///etc/passwd', 'nonsense', url] }

  expect(await open([own.address]).fetch(layer)).toBe('some bytes')
  expect(seen.map(({ headers }) => headers.authorization)).toEqual([undefined])
  expect(own.seen).toEqual([])
  await expect(open([own.address]).fetch({ ...layer, mediaType: MEDIA.ociLayer })).rejects.toMatchObject({
    code: 'not-found',
  })
})

const SIGNATURE = { mediaType: MEDIA.ociManifest, digest: LAYER.digest, size: 3, artifactType: 'a/signature' }
const SBOM = { ...SIGNATURE, artifactType: 'an/sbom' }
const index: Answer = (_, response) =>
  response.end(JSON.stringify({ schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests: [SIGNATURE, SBOM] }))

test('referrers are asked for, and of one type when that is wanted', async () => {
  const own = await start(index)

  expect(await open([own.address]).referrers()).toHaveLength(2)
  expect(await open([own.address]).referrers('a/signature')).toEqual([{ ...SIGNATURE, size: 3n }])
  expect(own.seen.at(-1)).toBe(`GET /v2/team/app/referrers/${SUBJECT}?artifactType=a/signature`)
})

test('a registry that does not know referrers is asked for the tag that stands in for them', async () => {
  const tag = `/v2/team/app/manifests/${SUBJECT.replace(':', '-')}`
  const own = await start((request, response) => (request.url === tag ? index : status(404))(request, response))
  const empty = await start(status(404))

  expect(await open([own.address]).referrers('an/sbom')).toMatchObject([{ artifactType: 'an/sbom' }])
  expect(await open([empty.address]).referrers()).toEqual([])
})
