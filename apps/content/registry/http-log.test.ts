import { MEDIA } from '@gantry/model/descriptor'
import { sha256Of } from '@gantry/model/digest'
import { parseReference } from '@gantry/model/reference'
import { expect, onTestFinished, test } from 'vitest'
import { startServer } from '../testing/server.ts'
import { createRegistry } from './registry.ts'
import { createTransport } from './transport.ts'
import { createServiceWallet } from './wallet.ts'

const BLOB = Buffer.from('the bytes of a blob')
const DESCRIPTOR = { mediaType: MEDIA.ociLayer, digest: sha256Of(BLOB), size: BigInt(BLOB.length) }
const SECRETS = [
  'of-the-user',
  'the-token-itself',
  'signature-of-a-url',
  'secret-header',
  'chocolate-chip',
  'the bytes of',
]
const base64 = Buffer.from('alice:of-the-user').toString('base64')

/** A registry that wants a token, sends blobs from another host, and repeats what it was told. */
async function startRepeating(): Promise<string> {
  const elsewhere = await startServer(onTestFinished, (_, response) => response.end(BLOB))
  const host: string = await startServer(onTestFinished, (request, response) => {
    const { authorization = '' } = request.headers
    if (request.url?.startsWith('/token')) response.end('{"token":"the-token-itself"}')
    else if (authorization === 'Bearer the-token-itself') {
      const location = `http://${elsewhere}/blob?X-Signature=signature-of-a-url`
      response.writeHead(307, { location, server: `I heard ${authorization}`, 'set-cookie': 'chocolate-chip' }).end()
    } else {
      const challenge = `Bearer realm="http://${host}/token?k=signature-of-a-url",service="here"`
      response.writeHead(401, { 'www-authenticate': challenge }).end()
    }
  })
  return host
}

async function fetchWith(log: (text: string) => void, host: string): Promise<void> {
  const transport = createTransport({ proxy: { httpProxy: '', httpsProxy: '', noProxy: '' }, stallMs: 5000 })
  onTestFinished(() => transport[Symbol.asyncDispose]())
  const found = { username: 'alice', secret: 'of-the-user', from: 'a test' }
  const wallet = createServiceWallet(async () => found, Date.now)
  const registry = createRegistry({ transport, now: Date.now, stallMs: 5000, backoffMs: 1, wallet })
  const reference = parseReference(`${host}/team/app:1`)
  const source = { reference, defaultScheme: '', headers: { 'X-Key': 'secret-header' }, log }
  await Array.fromAsync(registry.fetch(source, DESCRIPTOR, 0n, AbortSignal.timeout(20_000)))
}

test('every request and its answer is told, those for a token and to other hosts too', async () => {
  const told: string[] = []
  const host = await startRepeating()
  await fetchWith((text) => told.push(text), host)

  const firsts = told.map((text) =>
    text
      .split('\n')[0]
      ?.replace(/127\.0\.0\.1:\d+/, 'host')
      .replace(/\d+ ms/, 'N ms'),
  )
  const blob = `http://host/v2/team/app/blobs/${DESCRIPTOR.digest}`
  expect(firsts).toEqual([
    ...[`> GET ${blob}`, `< 401 GET ${blob} (N ms)`],
    ...['> POST http://host/token?***', '< 200 POST http://host/token?*** (N ms)'],
    ...[`> GET ${blob}`, `< 307 GET ${blob} (N ms)`],
    ...['> GET http://host/blob?***', '< 200 GET http://host/blob?*** (N ms)'],
  ])
  const all = told.join('')
  expect(all).toContain(`< www-authenticate: Bearer realm="http://${host}/token?***",service="here"`)
  expect(all).toContain('> authorization: ***\n')
  expect(all).toContain('> x-key: ***\n')
  expect(all).toContain('< set-cookie: ***\n')
  expect(all).toContain('< server: I heard ***\n')
  for (const secret of [...SECRETS, base64]) expect(all).not.toContain(secret)
})

test('a request without an answer is told, with its reason', async () => {
  const told: string[] = []

  await expect(fetchWith((text) => told.push(text), '127.0.0.1:1')).rejects.toMatchObject({ code: 'unavailable' })

  expect(told.at(-1)).toMatch(
    /^! GET http:\/\/127\.0\.0\.1:1\/v2\/.* \(\d+ ms\): connection refused \(ECONNREFUSED\)\n/,
  )
})
