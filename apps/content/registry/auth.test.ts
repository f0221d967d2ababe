import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Found } from '@gantry/client/credentials'
import { MEDIA } from '@gantry/model/descriptor'
import { sha256Of } from '@gantry/model/digest'
import { parseReference } from '@gantry/model/reference'
import { expect, onTestFinished, test } from 'vitest'
import { startServer } from '../testing/server.ts'
import { answerOf } from './answer.ts'
import type { Hosts } from './hosts.ts'
import { createRegistry, type Registry } from './registry.ts'
import { createTransport, type Transport } from './transport.ts'
import { createClientWallet, createServiceWallet, type Wallet } from './wallet.ts'

const BLOB = Buffer.from('some bytes')
const DESCRIPTOR = { mediaType: MEDIA.ociLayer, digest: sha256Of(BLOB), size: BigInt(BLOB.length) }
const SECRET = 'hunter2+very/secret'
const ALICE: Found = { username: 'alice', secret: SECRET, from: 'a test' }
const signal = AbortSignal.timeout(120_000)

const nobody = createServiceWallet(async () => undefined, Date.now)
const walletOf = (found: Found | undefined): Wallet => createClientWallet(async () => found, nobody)

interface Seen {
  readonly method: string
  readonly url: string
  readonly authorization: string
  readonly body: string
}

/** Answers after it wrote down what it was asked. */
async function startRecording(
  answer: (seen: Seen, response: ServerResponse) => unknown,
  address?: string,
): Promise<{ host: string; seen: Seen[] }> {
  const seen: Seen[] = []
  const host = await startServer(
    onTestFinished,
    async (request: IncomingMessage, response) => {
      const chunks = []
      for await (const chunk of request) chunks.push(chunk)
      const { method = '', url = '', headers } = request
      const entry = { method, url, authorization: headers.authorization ?? '', body: Buffer.concat(chunks).toString() }
      seen.push(entry)
      answer(entry, response)
    },
    undefined,
    address,
  )
  return { host, seen }
}

/** A registry that lets in whoever has the token of alice, with a token server beside it. */
function startGuarded(token: (seen: Seen, response: ServerResponse) => unknown, good = 'Bearer for-alice') {
  return startRecording((seen, response) => {
    if (seen.url.startsWith('/token')) token(seen, response)
    else if (seen.authorization === good) response.end(BLOB)
    else challenge(response, `http://${response.req.headers.host}/token`)
  })
}

const challenge = (response: ServerResponse, realm: string) =>
  response.writeHead(401, { 'www-authenticate': `Bearer realm="${realm}",service="here"` }).end()
const grant = (response: ServerResponse, token = 'for-alice', expiresIn = 300) =>
  response.end(JSON.stringify({ token, expires_in: expiresIn }))

function openRegistry(options: { hosts?: Hosts; wallet?: Wallet; now?: () => number } = {}): Registry {
  const transport = createTransport({ proxy: { httpProxy: '', httpsProxy: '', noProxy: '' }, stallMs: 1000 })
  onTestFinished(async () => await transport[Symbol.asyncDispose]())
  return createRegistry({ transport, now: Date.now, stallMs: 1000, backoffMs: 1, ...options })
}

async function fetchBlob(registry: Registry, host: string, wallet?: Wallet): Promise<string> {
  const reference = parseReference(`${host}/team/app:1`)
  const source = { reference, defaultScheme: '', headers: {}, ...(wallet && { wallet }) }
  const chunks = []
  for await (const chunk of registry.fetch(source, DESCRIPTOR, 0n, signal)) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}

test('a name and a password are posted to the token server', async () => {
  const { host, seen } = await startGuarded((_, response) => grant(response))

  expect(await fetchBlob(openRegistry(), host, walletOf(ALICE))).toBe('some bytes')

  const { method, url, authorization, body } = seen.find(({ url }) => url.startsWith('/token')) ?? {}
  expect([method, url, authorization]).toEqual(['POST', '/token', ''])
  expect(Object.fromEntries(new URLSearchParams(body))).toEqual({
    ...{ grant_type: 'password', username: 'alice', password: SECRET, client_id: 'gantry' },
    ...{ service: 'here', scope: 'repository:team/app:pull' },
  })
})

test('a header for a host is for its token server as well, when that is the same', async () => {
  const keys: unknown[] = []
  const answer = (good: string) => (seen: Seen, response: ServerResponse) => {
    if (seen.url.startsWith('/token')) {
      keys.push(response.req.headers['x-api-key'])
      grant(response)
    } else if (seen.authorization) response.end(BLOB)
    else challenge(response, `http://${good || response.req.headers.host}/token`)
  }
  const elsewhere = await startRecording(answer(''))
  const registry = openRegistry()
  for (const { host } of [await startRecording(answer('')), await startRecording(answer(elsewhere.host))]) {
    const headers = { 'X-Api-Key': 'key', host: 'other', Range: 'bytes=5-' }
    const source = { reference: parseReference(`${host}/team/app:1`), defaultScheme: '', headers }
    for await (const chunk of registry.fetch(source, DESCRIPTOR, 0n, signal)) expect(chunk).toEqual(BLOB)
  }

  expect(keys).toEqual(['key', undefined])
})

test('a token that a header of one client brought lets in nobody who does not send it', async () => {
  const { host } = await startGuarded((_, response) => {
    if (response.req.headers['x-api-key'] === 'key') grant(response)
    else response.writeHead(401).end()
  })
  const registry = openRegistry()
  const fetchWith = async (headers: Record<string, string>) => {
    const source = { reference: parseReference(`${host}/team/app:1`), defaultScheme: '', headers }
    for await (const chunk of registry.fetch(source, DESCRIPTOR, 0n, signal)) expect(chunk).toEqual(BLOB)
  }

  await fetchWith({ 'X-Api-Key': 'key' })
  await fetchWith({ 'X-Api-Key': 'key' })
  await expect(fetchWith({})).rejects.toMatchObject({ code: 'unauthenticated' })
})

test('an identity token is posted as a refresh token', async () => {
  const { host, seen } = await startGuarded((_, response) => grant(response))

  await fetchBlob(openRegistry(), host, walletOf({ username: '', secret: 'identity', from: '' }))

  const form = new URLSearchParams(seen.find(({ url }) => url === '/token')?.body)
  expect([form.get('grant_type'), form.get('refresh_token'), form.has('username')]).toEqual([
    ...['refresh_token', 'identity', false],
  ])
})

test.each([400, 401, 404, 405])('a token server that answers a POST with %i is asked by GET', async (status) => {
  const { host, seen } = await startGuarded(({ method, authorization }, response) => {
    if (method === 'POST') response.writeHead(status).end()
    else if (authorization === `Basic ${Buffer.from(`alice:${SECRET}`).toString('base64')}`) grant(response)
    else response.writeHead(403).end()
  })

  expect(await fetchBlob(openRegistry(), host, walletOf(ALICE))).toBe('some bytes')
  expect(seen.at(-2)?.url).toBe('/token?service=here&scope=repository%3Ateam%2Fapp%3Apull')
})

test('a name and a password are enough for a registry that wants just those', async () => {
  const good = `Basic ${Buffer.from(`alice:${SECRET}`).toString('base64')}`
  const { host, seen } = await startRecording(({ authorization }, response) => {
    if (authorization === good) response.end(BLOB)
    else response.writeHead(401, { 'www-authenticate': 'Basic realm="here"' }).end()
  })
  const registry = openRegistry()

  expect(await fetchBlob(registry, host, walletOf(ALICE))).toBe('some bytes')
  await expect(fetchBlob(registry, host, walletOf(undefined))).rejects.toMatchObject({ code: 'unauthenticated' })
  expect(seen).toHaveLength(3)
})

test('a token serves all pulls of its owner until it expires, and nobody else', async () => {
  let now = 0
  const { host, seen } = await startGuarded(({ body }, response) =>
    grant(response, body.includes('alice') ? 'for-alice' : 'bad'),
  )
  const registry = openRegistry({ now: () => now })
  const tokens = () => seen.filter(({ url }) => url.startsWith('/token')).length

  await Promise.all(Array.from({ length: 8 }, () => fetchBlob(registry, host, walletOf(ALICE))))
  await fetchBlob(registry, host, walletOf(ALICE))
  expect(tokens()).toBe(1)
  await expect(fetchBlob(registry, host, walletOf({ ...ALICE, username: 'bob' }))).rejects.toMatchObject({
    code: 'unauthenticated',
  })
  expect(tokens()).toBe(2)
  now = 301_000
  await fetchBlob(registry, host, walletOf(ALICE))
  expect(tokens()).toBe(3)
})

test('a token that was taken back early is replaced', async () => {
  let good = 'one'
  const { host } = await startRecording(({ url, authorization }, response) => {
    if (url.startsWith('/token')) grant(response, good)
    else if (authorization === `Bearer ${good}`) response.end(BLOB)
    else challenge(response, `http://${response.req.headers.host}/token`)
  })
  const registry = openRegistry()
  await fetchBlob(registry, host, walletOf(ALICE))

  good = 'two'

  expect(await fetchBlob(registry, host, walletOf(ALICE))).toBe('some bytes')
})

test('a registry that refuses every token is not asked for ever', async () => {
  const { host, seen } = await startGuarded((_, response) => grant(response, 'bad'))

  await expect(fetchBlob(openRegistry(), host, walletOf(ALICE))).rejects.toMatchObject({ code: 'unauthenticated' })

  expect(seen.length).toBeLessThanOrEqual(4)
})

test('CVE-2020-15157: a password goes to no token server on another host without TLS', async () => {
  const elsewhere = await startRecording((_, response) => grant(response), '127.0.0.2')
  const { host } = await startRecording(({ authorization }, response) => {
    if (authorization) response.end(BLOB)
    else challenge(response, `http://${elsewhere.host}/token`)
  })

  await expect(fetchBlob(openRegistry(), host, walletOf(ALICE))).rejects.toMatchObject({
    code: 'failed-precondition',
    message: expect.stringMatching(/is another host without TLS$/),
  })
  expect(elsewhere.seen).toEqual([])
  expect(await fetchBlob(openRegistry(), host)).toBe('some bytes')
})

test('CVE-2020-15157: a mirror gets neither what the client sends nor its headers', async () => {
  const mirror = await startRecording((_, response) => challenge(response, `http://${response.req.headers.host}/token`))
  const own = await startGuarded((_, response) => grant(response))
  const shared = { host: own.host, prefix: '/v2', capabilities: ['pull', 'resolve', 'push', 'referrers'] as const }
  const more = { headers: {}, from: 'a test', dial: { ca: [], clients: [], skipVerify: false, timeoutMs: undefined } }
  const hosts: Hosts = async () => [
    { ...shared, ...more, origin: `http://${mirror.host}`, own: false },
    { ...shared, ...more, origin: `http://${own.host}`, own: true },
  ]
  const reference = parseReference(`${own.host}/team/app:1`)
  const source = { reference, defaultScheme: '', headers: { 'x-api-key': SECRET }, wallet: walletOf(ALICE) }

  const chunks = []
  for await (const chunk of openRegistry({ hosts }).fetch(source, DESCRIPTOR, 0n, signal)) chunks.push(chunk)

  expect(Buffer.concat(chunks)).toEqual(BLOB)
  expect(mirror.seen[0]?.url).toBe(`/v2/team/app/blobs/${DESCRIPTOR.digest}?ns=${encodeURIComponent(own.host)}`)
  expect(JSON.stringify(mirror.seen)).not.toMatch(/alice|hunter2/)
})

test.each([
  ['as it is', SECRET],
  ['in a URL', encodeURIComponent(SECRET)],
  ['in Base64', Buffer.from(`alice:${SECRET}`).toString('base64')],
])('a secret that a server sends back %s is not shown', async (_what, text) => {
  const { host } = await startGuarded((seen, response) =>
    response.writeHead(403).end(`you sent ${text} with ${seen.body}`),
  )
  const other = await startRecording(({ authorization }, response) => {
    if (authorization) response.writeHead(403).end(`you sent ${text} and ${authorization}`)
    else response.writeHead(401, { 'www-authenticate': 'Basic realm="here"' }).end()
  })

  for (const asked of [host, other.host]) {
    const error = await fetchBlob(openRegistry(), asked, walletOf(ALICE)).catch((error: unknown) => error)
    expect(String(error)).toMatch(/you sent \*\*\*/)
    expect(String(error)).not.toMatch(/hunter2|YWxpY2U/)
  }
})

test('an error body without end is cut off', async () => {
  const { host } = await startRecording((_, response) => {
    response.writeHead(403)
    const timer = setInterval(() => response.write('x'.repeat(4096)), 5)
    response.on('close', () => clearInterval(timer))
  })

  const error = await fetchBlob(openRegistry(), host).catch((error: unknown) => error)

  expect(error).toMatchObject({ code: 'permission-denied' })
  expect(String(error).length).toBeLessThan(600)
})

test('a circle of redirects is left', async () => {
  const { host, seen } = await startRecording((_, response) => response.writeHead(307, { location: '/v2/again' }).end())

  await expect(fetchBlob(openRegistry(), host)).rejects.toMatchObject({
    code: 'failed-precondition',
    message: expect.stringMatching(/more than 10 redirects/),
  })
  expect(seen).toHaveLength(11)
})

test('what the service itself has is asked for once in a while', async () => {
  let asked = 0
  let now = 0
  const wallet = createServiceWallet(
    async () => (asked++ > 0 ? ALICE : undefined),
    () => now,
  )
  const owner = { host: 'reg', own: true }

  expect(wallet.known(owner)).toBeUndefined()
  expect([await wallet.find(owner, signal), await wallet.find(owner, signal)]).toEqual([undefined, undefined])
  expect(wallet.known(owner)).toBe('none')
  now = 60_000
  expect(await wallet.find(owner, signal)).toEqual(ALICE)
})

test('who wants the same of the service waits for one answer, also when who asked first is gone', async () => {
  const answer = Promise.withResolvers<Found>()
  let asked = 0
  const find = (_: string, stop: AbortSignal) => {
    asked++
    stop.addEventListener('abort', () => answer.reject(stop.reason))
    return answer.promise
  }
  const wallet = createServiceWallet(find, Date.now)
  const owner = { host: 'reg', own: true }
  const gone = new AbortController()

  const first = wallet.find(owner, gone.signal)
  const others = [wallet.find(owner, signal), wallet.find({ host: 'reg', own: false }, signal)]
  gone.abort(new Error('gone'))
  await expect(first).rejects.toThrow('gone')
  answer.resolve(ALICE)

  expect(await Promise.all(others)).toEqual([ALICE, ALICE])
  expect(asked).toBe(1)
})

test.each([
  ['reg.test:443', 'https://reg.test/v2/team/app/blobs/'],
  ['Reg.Test', 'https://reg.test/v2/team/app/blobs/'],
])('%s is the host of its reference, and let in by the name that has there', async (host, address) => {
  const seen: string[] = []
  const transport: Transport = {
    async exchange({ url, headers: { authorization = '' } }) {
      expect(url.href).toContain(address)
      seen.push(authorization)
      const headers = { 'www-authenticate': 'Basic realm="x"' }
      async function* body() {
        yield BLOB
      }
      return answerOf({ url, status: authorization === '' ? 401 : 200, headers, body: body(), drop: () => undefined })
    },
    [Symbol.asyncDispose]: async () => undefined,
  }
  const asked: string[] = []
  const wallet = createClientWallet(async (name) => {
    asked.push(name)
    return ALICE
  }, nobody)
  const registry = createRegistry({ transport, now: Date.now, stallMs: 1000, backoffMs: 1 })

  expect(await fetchBlob(registry, host, wallet)).toBe('some bytes')

  expect(seen).toEqual(['', `Basic ${Buffer.from(`alice:${SECRET}`).toString('base64')}`])
  expect(asked).toEqual([host.toLowerCase()])
})

test('a host that no address can have is refused in words', async () => {
  await expect(fetchBlob(openRegistry(), 'reg.test:99999')).rejects.toMatchObject({ code: 'invalid-argument' })
})
