import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createHosts } from './hosts.ts'
import { parseHosts } from './hosts-file.ts'

const PEM = '-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n'
let root = ''

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'gantry-hosts-'))
})

afterEach(async () => {
  await rm(root, { recursive: true })
})

async function write(path: string, text: string): Promise<void> {
  await mkdir(dirname(join(root, path)), { recursive: true })
  await writeFile(join(root, path), text)
}

const find = (host: string, more = {}) => createHosts(root)({ host, defaultScheme: '', hostDir: '', ...more })
const origins = async (host: string, more = {}) => (await find(host, more)).map(({ origin, prefix }) => origin + prefix)

test('mirrors come in the order of the file, then the server with what stands at the top', async () => {
  await write('ca.crt', PEM)
  await write(
    'reg.example.com/hosts.toml',
    `server = "https://up.example.com"
     capabilities = ["pull", "resolve"]
     skip_verify = true

     [host."http://z.example.com:5000"]
       capabilities = ["pull"]
       dial_timeout = "1m30s"
       [host."http://z.example.com:5000".header]
         X-One = "1"
         x-many = ["a", "b"]
     [host."a.example.com/proxy"]
       ca = "../ca.crt"
       client = [["../ca.crt", "${join(root, 'ca.crt')}"]]
     [host."https://b.example.com/api/v9/"]
       override_path = true`,
  )

  const endpoints = await find('reg.example.com')

  const file = join(root, 'reg.example.com/hosts.toml')
  const all = ['pull', 'resolve', 'push', 'referrers']
  const plain = { ca: [], clients: [], skipVerify: false, timeoutMs: undefined }
  const shared = { host: 'reg.example.com', own: false, from: file, headers: {}, capabilities: all, dial: plain }
  expect(endpoints).toEqual([
    {
      ...{ ...shared, origin: 'http://z.example.com:5000', prefix: '/v2', capabilities: ['pull'] },
      ...{ headers: { 'x-one': '1', 'x-many': 'a, b' }, dial: { ...plain, timeoutMs: 90_000 } },
    },
    {
      ...{ ...shared, origin: 'https://a.example.com', prefix: '/proxy/v2' },
      dial: { ...plain, ca: [PEM], clients: [{ certificate: PEM, key: PEM }] },
    },
    { ...shared, origin: 'https://b.example.com', prefix: '/api/v9' },
    {
      ...{ ...shared, origin: 'https://up.example.com', prefix: '/v2', capabilities: ['pull', 'resolve'] },
      dial: { ...plain, skipVerify: true },
    },
  ])
})

test('the folder of a host is found by its name and port, then as it is, then by default', async () => {
  await write('_default/hosts.toml', 'server = "https://any"')
  expect(await origins('reg:5000')).toEqual(['https://any/v2'])
  await write('reg:5000/hosts.toml', 'server = "https://as-it-is"')
  expect(await origins('reg:5000')).toEqual(['https://as-it-is/v2'])
  await write('reg_5000_/hosts.toml', 'server = "https://with-port"')
  expect(await origins('reg:5000')).toEqual(['https://with-port/v2'])
  await write('mine/reg:5000/hosts.toml', 'server = "https://of-the-request"')
  expect(await origins('reg:5000', { hostDir: join(root, 'mine') })).toEqual(['https://of-the-request/v2'])
})

test('without a server the host itself is asked last, and is known as itself', async () => {
  await write('docker.io/hosts.toml', '[host."https://mirror"]')

  const endpoints = await find('docker.io')

  expect(endpoints.map(({ origin, own }) => [origin, own])).toEqual([
    ['https://mirror', false],
    ['https://registry-1.docker.io', true],
  ])
  expect(await origins('ghcr.io')).toEqual(['https://ghcr.io/v2'])
})

test('certificates that lie in the folder of a host are for that host', async () => {
  await write('reg/ca.crt', PEM)
  await write('reg/me.cert', PEM)
  await write('reg/me.key', `${PEM}key`)
  await write('reg/lone.cert', PEM)

  const [endpoint] = await find('reg')

  expect(endpoint?.dial).toEqual({
    ...{ ca: [PEM], clients: [{ certificate: PEM, key: `${PEM}key` }], skipVerify: false, timeoutMs: undefined },
  })
})

test.each([
  ['server = ', /hosts\.toml: line 1: /],
  ['sever = "https://x"', /hosts\.toml: .*sever/],
  ['[host."https://x"]\ncapabilities = ["fly"]', /hosts\.toml: host\.https:\/\/x\.capabilities\.0: /],
  ['[host."https://x"]\nskip_verify = "yes"', /skip_verify/],
  ['[host."ftp://x"]', /"ftp:\/\/x" is no address/],
  ['[host."https://me:pw@x"]', /the address of x has credentials in it$/],
  ['server = "https://x"\ndial_timeout = "soon"', /dial_timeout: "soon" is no duration/],
  ['server = "https://x"\n[header]\nx = "a\\nb"', /must be one line/],
  ['ca = "none.crt"', /none\.crt does not exist/],
  ['ca = "hosts.toml"', /hosts\.toml is not in PEM/],
])('%j is a clear failure that names the file', async (text, message) => {
  await write('reg/hosts.toml', text)

  await expect(find('reg')).rejects.toMatchObject({
    code: 'failed-precondition',
    message: expect.stringMatching(message),
  })
})

test('a folder of the request has to be absolute', async () => {
  await expect(find('reg', { hostDir: 'certs.d' })).rejects.toMatchObject({ code: 'invalid-argument' })
})

test('a lone client certificate holds its key too', () => {
  const { server } = parseHosts('client = "both.pem"', 'hosts.toml')

  expect(server.clients).toEqual([['both.pem', 'both.pem']])
})
