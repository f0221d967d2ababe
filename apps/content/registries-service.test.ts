import { create } from '@bufbuild/protobuf'
import { ExplainRequestSchema } from '@gantry/api/gantry/content/v1/registries_pb'
import type { Found } from '@gantry/client/credentials'
import { parseNamespace } from '@gantry/model/namespace'
import { expect, onTestFinished, test } from 'vitest'
import { registriesService } from './registries-service.ts'
import type { Hosts } from './registry/hosts.ts'
import { createRegistry } from './registry/registry.ts'
import { createTransport } from './registry/transport.ts'
import { createServiceWallet } from './registry/wallet.ts'
import { startServer } from './testing/server.ts'

const DIGEST = `sha256:${'0'.repeat(64)}`
const MANIFEST = 'application/vnd.oci.image.manifest.v1+json'
const signal = AbortSignal.timeout(120_000)
const context = { namespace: parseNamespace('default'), lease: undefined, header: () => undefined, signal }
const SERVICE: Found = { username: 'node', secret: 'of-the-node', from: '/root/.docker/config.json' }

async function explain(hosts: Hosts, init: Parameters<typeof create<typeof ExplainRequestSchema>>[1]) {
  const transport = createTransport({ proxy: { httpProxy: '', httpsProxy: '', noProxy: '' }, stallMs: 1000 })
  onTestFinished(async () => await transport[Symbol.asyncDispose]())
  const wallet = createServiceWallet(async (host) => (host === 'nowhere' ? undefined : SERVICE), Date.now)
  const registry = createRegistry({ transport, now: Date.now, stallMs: 1000, backoffMs: 1, hosts, wallet })
  return (await registriesService({ registry, wallet }).explain(create(ExplainRequestSchema, init), context)).endpoints
}

const endpoint = (host: string, address: string, more = {}) => ({
  ...{ host, origin: `http://${address}`, prefix: '/v2', own: host === address, headers: {}, from: 'hosts.toml' },
  capabilities: ['pull', 'resolve', 'push', 'referrers'] as const,
  ...{ dial: { ca: [], clients: [], skipVerify: false, timeoutMs: undefined }, ...more },
})

const start = (good: string) =>
  startServer(onTestFinished, (request, response) => {
    if (request.headers.authorization !== `Basic ${Buffer.from(good).toString('base64')}`)
      response.writeHead(401, { 'www-authenticate': 'Basic realm="here"' }).end()
    else
      response
        .writeHead(200, { 'content-type': MANIFEST, 'content-length': 7, 'docker-content-digest': DIGEST })
        .end(request.method === 'HEAD' ? undefined : 'content')
  })

test('each endpoint says what it answers, and whose credentials it got', async () => {
  const own = await start('alice:pass')
  const mirror = await start('node:of-the-node')
  const hosts: Hosts = async ({ host }) => [
    endpoint(host, mirror),
    endpoint(host, '127.0.0.1:1', { from: 'default' }),
    endpoint(host, mirror, { capabilities: ['pull'] }),
    endpoint(host, own),
  ]

  const endpoints = await explain(hosts, {
    ...{ reference: `${own}/team/app:1`, username: 'alice', secret: 'pass', credentialsFrom: 'a file' },
  })

  const all = ['pull', 'resolve', 'push', 'referrers']
  const path = '/v2/team/app/manifests/1'
  const ns = `?ns=${encodeURIComponent(own)}`
  const found = { answer: `200: ${MANIFEST} ${DIGEST}`, works: true, capabilities: all, from: 'hosts.toml' }
  expect(endpoints).toEqual([
    { ...found, url: `http://${mirror}${path}${ns}`, credentials: '/root/.docker/config.json' },
    {
      ...{ url: `http://127.0.0.1:1${path}${ns}`, from: 'default', capabilities: all, credentials: '', works: false },
      answer: `Cannot resolve ${own}/team/app:1: 127.0.0.1:1: connection refused (ECONNREFUSED)`,
    },
    {
      ...{ url: `http://${mirror}${path}${ns}`, from: 'hosts.toml', capabilities: ['pull'], works: false },
      ...{ answer: 'not asked: it is not there to resolve', credentials: expect.any(String) },
    },
    { ...found, url: `http://${own}${path}`, credentials: 'a file' },
  ])
})

test('a host alone is asked whether it lets us in', async () => {
  const own = await start('alice:pass')
  const hosts: Hosts = async ({ host }) => [endpoint(host, own)]
  const login = (secret: string) => explain(hosts, { reference: own, username: 'alice', secret, credentialsFrom: 'x' })

  expect(await login('pass')).toMatchObject([{ url: `http://${own}/v2/`, works: true, credentials: 'x' }])
  expect(await login('wrong')).toMatchObject([{ works: false, answer: expect.stringMatching(/answers 401$/) }])
})

test.each(['', 'a b', '../x'])('%j is nothing to explain', async (reference) => {
  await expect(explain(async () => [], { reference })).rejects.toMatchObject({ code: 'invalid-argument' })
})
