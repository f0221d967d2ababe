import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type RequestListener } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { MEDIA } from '@gantry/model/descriptor'
import { sha256Of } from '@gantry/model/digest'
import { parseReference } from '@gantry/model/reference'
import { afterEach, expect, test } from 'vitest'
import { parseChallenges } from './challenge.ts'
import { endpointOf } from './endpoint.ts'
import { createRegistry } from './registry.ts'
import { createTransport } from './transport.ts'

const BLOB = Buffer.from('some bytes')
const DESCRIPTOR = { mediaType: MEDIA.ociLayer, digest: sha256Of(BLOB), size: BigInt(BLOB.length) }
const signal = AbortSignal.timeout(120_000)
const open: (() => Promise<unknown>)[] = []

afterEach(async () => {
  for (const close of open.splice(0)) await close()
})

async function startServer(handler: RequestListener): Promise<string> {
  const server = createServer(handler).listen(0, '127.0.0.1')
  await once(server, 'listening')
  open.push(async () => {
    server.closeAllConnections()
    server.close()
  })
  const address = server.address()
  return `127.0.0.1:${typeof address === 'object' ? address?.port : ''}`
}

async function fetchBlob(host: string, headers: Record<string, string> = {}, defaultScheme = ''): Promise<string> {
  const transport = createTransport({ proxy: { httpProxy: '', httpsProxy: '', noProxy: '' }, stallMs: 1000 })
  open.push(() => Promise.resolve(transport[Symbol.asyncDispose]()))
  const registry = createRegistry({ transport, now: Date.now, stallMs: 1000, backoffMs: 1 })
  const source = { reference: parseReference(`${host}/team/app:1`), defaultScheme, headers }
  const chunks = []
  for await (const chunk of registry.fetch(source, DESCRIPTOR, 0n, signal)) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}

/** A registry that wants a token, with a token server on the same port. */
async function startGuarded(token: RequestListener, seen: IncomingMessage[] = []): Promise<string> {
  const host = await startServer((request, response) => {
    seen.push(request)
    if (request.url?.startsWith('/token')) token(request, response)
    else if (request.headers.authorization === 'Bearer good') response.end(BLOB)
    else {
      const challenge = `Bearer realm="http://${host}/token",service="here",scope="repository:team/app:pull"`
      response.writeHead(401, { 'www-authenticate': challenge }).end()
    }
  })
  return host
}

test('anybody gets a token for the asking, once for many blobs', async () => {
  const seen: IncomingMessage[] = []
  const host = await startGuarded((_, response) => response.end('{"access_token":"good","expires_in":300}'), seen)

  expect(await fetchBlob(host)).toBe('some bytes')

  expect(seen.map(({ url }) => url)).toEqual([
    `/v2/team/app/blobs/${DESCRIPTOR.digest}`,
    '/token?service=here&scope=repository%3Ateam%2Fapp%3Apull',
    `/v2/team/app/blobs/${DESCRIPTOR.digest}`,
  ])
})

test.each([
  ['rubbish', 'failed-precondition', /answers nonsense/],
  ['{"token":"with\\r\\nnew lines"}', 'failed-precondition', /answers nonsense/],
  ['[]', 'failed-precondition', /answers nonsense/],
  ['x'.repeat(100_000), 'failed-precondition', /more than 65536 bytes/],
  ['{"token":"bad"}', 'unauthenticated', /answers 401/],
])('a token server that says %.20s is a clear failure', async (answer, code, message) => {
  const host = await startGuarded((_, response) => response.end(answer))

  await expect(fetchBlob(host)).rejects.toMatchObject({ code, message: expect.stringMatching(message) })
})

test('a token server that refuses is quoted without its secrets', async () => {
  const host = await startGuarded((_, response) =>
    response
      .writeHead(403)
      .end('{"errors":[{"code":"DENIED","message":"no token=abc123 for http://me:pw@host/x?sig=1"}]}'),
  )

  await expect(fetchBlob(host)).rejects.toMatchObject({
    code: 'unauthenticated',
    message: expect.stringMatching(/answers 403 DENIED: no token=\*\*\* for http:\/\/\*\*\*@host\/x\?\*\*\*$/),
  })
})

test('CVE-2020-15157: neither tokens nor headers of the client follow a redirect to another host', async () => {
  const seen: IncomingMessage[] = []
  const cdn = await startServer((request, response) => {
    seen.push(request)
    response.end(BLOB)
  })
  const host = await startServer((request, response) => {
    if (request.url?.startsWith('/token')) response.end('{"token":"good"}')
    else if (request.headers.authorization !== 'Bearer good')
      response.writeHead(401, { 'www-authenticate': `Bearer realm="http://${host}/token"` }).end()
    else response.writeHead(307, { location: `http://${cdn}/elsewhere` }).end()
  })

  expect(await fetchBlob(host, { 'x-secret': 'mine', cookie: 'mine' })).toBe('some bytes')

  expect(seen).toHaveLength(1)
  expect(JSON.stringify(seen[0]?.headers)).not.toMatch(/good|mine/)
})

test('CVE-2020-15157: a foreign host that asks for credentials gets none', async () => {
  const cdn = await startServer((_, response) => {
    response.writeHead(401, { 'www-authenticate': `Bearer realm="http://${cdn}/token"` }).end()
  })
  const host = await startServer((_, response) => response.writeHead(307, { location: `http://${cdn}/x` }).end())

  await expect(fetchBlob(host)).rejects.toMatchObject({ code: 'unauthenticated' })
})

test.each(['file:///etc/passwd', 'http://', ''])('a redirect to %j leads nowhere', async (location) => {
  const host = await startServer((_, response) => response.writeHead(302, { location }).end())

  await expect(fetchBlob(host)).rejects.toMatchObject({ code: 'failed-precondition' })
})

test('a body that only drips is given up', async () => {
  const host = await startServer((_, response) => {
    response.writeHead(200, { 'content-length': BLOB.length })
    let at = 0
    const timer = setInterval(() => (at < 9 ? response.write(BLOB.subarray(at, ++at)) : clearInterval(timer)), 150)
    response.on('close', () => clearInterval(timer))
  })

  await expect(fetchBlob(host)).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringMatching(/Cannot fetch sha256:\w+ from 127\.0\.0\.1:\d+: \d bytes in \d s/),
  })
})

test('what does not speak HTTP is said to', async () => {
  const { createServer: createTcp } = await import('node:net')
  const server = createTcp((socket) => socket.end('SSH-2.0-OpenSSH\r\n')).listen(0, '127.0.0.1')
  await once(server, 'listening')
  open.push(async () => void server.close())
  const address = server.address()

  await expect(fetchBlob(`127.0.0.1:${typeof address === 'object' ? address?.port : ''}`)).rejects.toMatchObject({
    code: 'failed-precondition',
    message: expect.stringMatching(/does not answer in HTTP/),
  })
})

test('a registry without TLS is not spoken to in plain HTTP unless that was asked for', async () => {
  const host = await startServer((_, response) => response.end(BLOB))

  await expect(fetchBlob(host, {}, 'https')).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringMatching(/does not speak TLS, and plain HTTP was not asked for/),
  })
})

test.skipIf(spawnSync('openssl', ['version']).status !== 0)(
  'CVE-2025-6032: a certificate that nobody vouches for fails the pull',
  async () => {
    const make =
      'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -days 2 -keyout - -out -'
    const pem = spawnSync('openssl', make.split(' ')).stdout.toString()
    let asked = 0
    const server = createTlsServer({ key: pem, cert: pem }, (_, response) => {
      asked++
      response.end(BLOB)
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    open.push(async () => void server.close())
    const address = server.address()
    const host = `localhost:${typeof address === 'object' ? address?.port : ''}`

    await expect(fetchBlob(host, {}, 'https')).rejects.toMatchObject({
      code: 'failed-precondition',
      message: expect.stringMatching(/its certificate is not trusted/),
    })
    expect(asked).toBe(0)
  },
)

test.each([
  ['docker.io', '', 'https://registry-1.docker.io'],
  ['ghcr.io', '', 'https://ghcr.io'],
  ['ghcr.io', 'http', 'http://ghcr.io'],
  ['localhost:5000', '', 'http://localhost:5000'],
  ['127.0.0.2:5000', '', 'http://127.0.0.2:5000'],
  ['[::1]:5000', '', 'http://[::1]:5000'],
  ['localhost', '', 'https://localhost'],
  ['localhost:443', '', 'https://localhost'],
  ['GHCR.io', '', 'https://ghcr.io'],
  ['localhost:5000', 'https', 'https://localhost:5000'],
  ['127.0.0.1.example.com:5000', '', 'https://127.0.0.1.example.com:5000'],
  ['10.0.0.1:5000', '', 'https://10.0.0.1:5000'],
])('%s with scheme %j is reached at %s', (host, scheme, origin) => {
  expect(endpointOf(host, scheme)).toMatchObject({ host, origin, prefix: '/v2', own: true })
})

test('challenges are read in the order we like them', () => {
  expect(parseChallenges(['Basic realm="a"', 'Bearer realm="https://x/t", service=s, scope="a b"', '???'])).toEqual([
    { scheme: 'bearer', parameters: { realm: 'https://x/t', service: 's', scope: 'a b' } },
    { scheme: 'basic', parameters: { realm: 'a' } },
  ])
})

test('several challenges in one line are told apart', () => {
  const line = 'Bearer realm="https://x/t, Basic y=z" , service="s",Negotiate, Basic realm="a \\"b\\"", charset=UTF-8'

  expect(parseChallenges([line])).toEqual([
    { scheme: 'bearer', parameters: { realm: 'https://x/t, Basic y=z', service: 's' } },
    { scheme: 'basic', parameters: { realm: 'a "b"', charset: 'UTF-8' } },
    { scheme: 'negotiate', parameters: {} },
  ])
})
