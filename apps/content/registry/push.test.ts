import type { IncomingMessage, ServerResponse } from 'node:http'
import { MEDIA } from '@gantry/model/descriptor'
import { sha256Of } from '@gantry/model/digest'
import { parseReference } from '@gantry/model/reference'
import { expect, onTestFinished, test } from 'vitest'
import { startServer } from '../testing/server.ts'
import { bestMount } from './push.ts'
import { createRegistry, type Registry } from './registry.ts'
import { retryAfterMs } from './sender.ts'
import { createTransport } from './transport.ts'

const BLOB = Buffer.alloc(300_000, 'bytes')
const DIGEST = sha256Of(BLOB)
const BLOB_DESCRIPTOR = { mediaType: MEDIA.ociLayer, digest: DIGEST, size: BigInt(BLOB.length) }
const MANIFEST = Buffer.from('{"schemaVersion":2}')
const MANIFEST_DESCRIPTOR = { mediaType: MEDIA.ociManifest, digest: sha256Of(MANIFEST), size: BigInt(MANIFEST.length) }
const signal = AbortSignal.timeout(120_000)

type Answers = Readonly<Record<string, (request: IncomingMessage, response: ServerResponse) => unknown>>

/** A registry that answers as told, by method and the beginning of the path. */
async function startFake(answers: Answers): Promise<{ host: string; seen: string[]; bodies: Buffer[] }> {
  const seen: string[] = []
  const bodies: Buffer[] = []
  const host = await startServer(onTestFinished, async (request, response) => {
    const line = `${request.method} ${decodeURIComponent(request.url ?? '')}`
    const chunks = []
    for await (const chunk of request) chunks.push(chunk)
    seen.push(line)
    if (request.method === 'PUT') bodies.push(Buffer.concat(chunks))
    const answer = Object.entries(answers).find(([start]) => line.startsWith(start))?.[1]
    if (answer) answer(request, response)
    else response.writeHead(404).end()
  })
  return { host, seen, bodies }
}

function openRegistry(stallMs = 1000): Registry {
  const transport = createTransport({ proxy: { httpProxy: '', httpsProxy: '', noProxy: '' }, stallMs })
  onTestFinished(async () => await transport[Symbol.asyncDispose]())
  return createRegistry({ transport, now: Date.now, stallMs, backoffMs: 1 })
}

const sourceOf = (host: string) => ({ reference: parseReference(`${host}/team/app:1`), defaultScheme: '', headers: {} })

async function pushBlob(host: string, mountFrom: string[] = [], registry = openRegistry()) {
  const sent: bigint[] = []
  async function* body() {
    for (let at = 0; at < BLOB.length; at += 100_000) yield BLOB.subarray(at, at + 100_000)
  }
  const upload = { descriptor: BLOB_DESCRIPTOR, body, mountFrom, onProgress: (bytes: bigint) => void sent.push(bytes) }
  return { result: await registry.push.blob(sourceOf(host), upload, signal), sent }
}

const pushManifest = (host: string, tag?: string) =>
  openRegistry().push.manifest(sourceOf(host), { descriptor: MANIFEST_DESCRIPTOR, bytes: MANIFEST, tag }, signal)

const takes: Answers = {
  'POST /v2/team/app/blobs/uploads/': (_, response) => response.writeHead(202, { location: '/upload?state=1' }).end(),
  'PUT /upload': (request, response) =>
    response.writeHead(request.headers['content-length'] === String(BLOB.length) ? 201 : 400).end(),
}

test('a blob is asked for, then uploaded in one piece', async () => {
  const { host, seen, bodies } = await startFake(takes)

  expect(await pushBlob(host)).toEqual({ result: 'complete', sent: [100_000n, 200_000n, 300_000n] })

  expect(seen).toEqual([
    `HEAD /v2/team/app/blobs/${DIGEST}`,
    'POST /v2/team/app/blobs/uploads/',
    `PUT /upload?state=1&digest=${DIGEST}`,
  ])
  expect(bodies).toEqual([BLOB])
})

test('a blob that is there is not sent', async () => {
  const { host, seen } = await startFake({ HEAD: (_, response) => response.end() })

  expect((await pushBlob(host)).result).toBe('already exists')
  expect(seen).toHaveLength(1)
})

test('a blob is mounted from the repository that is most like this one', async () => {
  const { host, seen } = await startFake({ POST: (_, response) => response.writeHead(201).end() })

  expect((await pushBlob(host, ['other', 'team/base'])).result).toBe('mounted')
  expect(seen[1]).toBe(`POST /v2/team/app/blobs/uploads/?mount=${DIGEST}&from=team/base`)
})

test.each([401, 404, 405])('a mount that is answered with %i is followed by an upload', async (status) => {
  const { host } = await startFake({
    'POST /v2/team/app/blobs/uploads/?mount': (_, response) => response.writeHead(status).end(),
    ...takes,
  })

  expect((await pushBlob(host, ['team/base'])).result).toBe('complete')
})

test('an upload that a registry sends elsewhere takes no credentials along', async () => {
  const seen: IncomingMessage[] = []
  const elsewhere = await startServer(onTestFinished, (request, response) => {
    seen.push(request)
    request.resume().on('end', () => response.writeHead(201).end())
  })
  const { host } = await startFake({
    'POST /v2/': (request, response) =>
      request.headers.authorization === 'Bearer good'
        ? response.writeHead(202, { location: `http://${elsewhere}/upload` }).end()
        : response.writeHead(401, { 'www-authenticate': `Bearer realm="http://${request.headers.host}/token"` }).end(),
    'GET /token': (_, response) => response.end('{"token":"good"}'),
  })

  expect((await pushBlob(host)).result).toBe('complete')
  expect(seen.map(({ headers }) => headers.authorization)).toEqual([undefined])
})

test('a push asks for a token that allows it', async () => {
  const { host, seen } = await startFake({
    'HEAD /v2/': (request, response) =>
      request.headers.authorization
        ? response.end()
        : response.writeHead(401, { 'www-authenticate': `Bearer realm="http://${request.headers.host}/token"` }).end(),
    'GET /token': (_, response) => response.end('{"token":"good"}'),
  })

  await pushBlob(host)

  expect(seen[1]).toBe('GET /token?scope=repository:team/app:pull,push')
})

test('an upload that breaks off is begun anew and sent from its start: docker-registry takes no second start of the same', async () => {
  let uploads = 0
  const { host, bodies, seen } = await startFake({
    'POST /v2/team/app/blobs/uploads/': (_, response) =>
      response.writeHead(202, { location: `/upload/${++uploads}` }).end(),
    'PUT /upload/1': (_, response) => response.writeHead(503).end(),
    'PUT /upload/2': ({ socket }) => socket.destroy(),
    'PUT /upload/3': (_, response) => response.writeHead(201).end(),
  })

  expect((await pushBlob(host)).result).toBe('complete')
  expect(bodies).toEqual([BLOB, BLOB, BLOB])
  expect(seen.filter((line) => line.startsWith('PUT'))).toEqual(
    [1, 2, 3].map((at) => `PUT /upload/${at}?digest=${DIGEST}`),
  )
})

test('a manifest gets its tag unless the tag names it already', async () => {
  const put = (digest: string): Answers => ({
    HEAD: (_, response) => response.writeHead(200, { 'docker-content-digest': digest }).end(),
    PUT: (request, response) =>
      response.writeHead(request.headers['content-type'] === MEDIA.ociManifest ? 201 : 400).end(),
  })
  const old = await startFake(put(DIGEST))
  const same = await startFake(put(MANIFEST_DESCRIPTOR.digest))

  expect(await pushManifest(old.host, '1')).toBe('complete')
  expect(old.seen).toEqual(['HEAD /v2/team/app/manifests/1', 'PUT /v2/team/app/manifests/1'])
  expect(old.bodies).toEqual([MANIFEST])
  expect(await pushManifest(same.host, '1')).toBe('already exists')
  await pushManifest(old.host)
  expect(old.seen.at(-1)).toBe(`HEAD /v2/team/app/manifests/${MANIFEST_DESCRIPTOR.digest}`)
})

test.each([
  [
    (_: unknown, response: ServerResponse) => response.writeHead(403).end('{"errors":[{"code":"DENIED"}]}'),
    'permission-denied',
    /403: DENIED$/,
  ],
  [
    (_: unknown, response: ServerResponse) => response.writeHead(201, { 'docker-content-digest': DIGEST }).end(),
    'failed-precondition',
    /took it for/,
  ],
  [
    (_: unknown, response: ServerResponse) => response.writeHead(307, { location: '/x' }).end(),
    'failed-precondition',
    /redirects what is sent/,
  ],
])('a registry that does not take a manifest as it is fails the push', async (answer, code, message) => {
  const { host } = await startFake({ PUT: answer })

  await expect(pushManifest(host, '1')).rejects.toMatchObject({ code, message: expect.stringMatching(message) })
})

test.each(['ftp://x/y', 'http://', ''])('an upload to %j goes nowhere', async (location) => {
  const { host } = await startFake({
    POST: (_, response) => response.writeHead(202, location === '' ? {} : { location }).end(),
  })

  await (location === ''
    ? expect(pushBlob(host)).rejects.toMatchObject({ code: 'not-found' })
    : expect(pushBlob(host)).rejects.toMatchObject({ code: 'failed-precondition' }))
})

test('an upload that nobody reads is given up', async () => {
  const { host } = await startFake(takes)
  const stuck = await startServer(onTestFinished, (request, response) => {
    if (request.method === 'HEAD') response.writeHead(404).end()
    else if (request.method === 'POST') response.writeHead(202, { location: '/upload' }).end()
  })

  expect((await pushBlob(host)).result).toBe('complete')
  await expect(pushBlob(stuck, [], openRegistry(500))).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringMatching(/Cannot push sha256:\w+ to .*: it does not answer/),
  })
}, 15_000)

test('what could not be a repository is not mounted from', () => {
  expect(bestMount({ path: 'team/app' }, ['a&b=c', '../x', 'team/app', 'x'.repeat(300)])).toBeUndefined()
})

test.each([
  ['2', 2000],
  ['99999', 30_000],
  ['Thu, 01 Jan 1970 00:00:05 GMT', 4000],
  ['Thu, 01 Jan 1970 00:00:00 GMT', 0],
  ['soon', 0],
  ['', 0],
  ['-3', 0],
])('Retry-After %j means %i ms', (text, ms) => {
  expect(retryAfterMs(text, 1000)).toBe(ms)
})
