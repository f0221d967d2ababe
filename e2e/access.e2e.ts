/** Who gets in, and what they may do: letter E of what runtimes were broken with, and docs/access.md. */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create, toBinary } from '@bufbuild/protobuf'
import { WriteAction } from '@gantry/api/containerd/services/content/v1/content_pb'
import { ImageStoreSchema } from '@gantry/api/containerd/types/transfer/imagestore_pb'
import { OCIRegistrySchema } from '@gantry/api/containerd/types/transfer/registry_pb'
import { createClient, type GantryClient } from '@gantry/client/client'
import { type Authority, createAuthority } from '@gantry/rpc/certificates.fixture'
import { readKeys } from '@gantry/rpc/tls'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { run } from './harness/command.ts'
import { until } from './harness/daemon.ts'
import { GANTRY, startGantry } from './harness/gantry.ts'
import { signal } from './harness/kill.ts'
import type { Running } from './harness/running.ts'

const NOBODY = '65534'
const BUILDERS = '4711' // a group that needs no name
const never = new AbortController().signal

const POLICY = `
[[allow]]
group = ${BUILDERS}
namespaces = ["ci", "ci-*"]
access = "write"

[[allow]]
uri = "spiffe://example/ci"
namespaces = ["ci", "ci-*"]
access = "write"

[[allow]]
cn = "dashboard"
namespaces = ["ci"]
access = "read"
`

let dir = ''
let node: Running
let authority: Authority
let other: Authority
const socket = () => join(dir, 'users', 'gantry.sock')
/** The one that the kernel gave the gateway that runs now. */
const port = () => [...node.daemon.log().matchAll(/mutual TLS .*port=(\d+)/g)].at(-1)?.[1] ?? ''

beforeAll(async () => {
  ;[authority, other] = await Promise.all([createAuthority(), createAuthority()])
  dir = mkdtempSync(join(tmpdir(), 'ga-'))
  for (const folder of ['root', 'state', 'users', 'tls']) mkdirSync(join(dir, folder), { mode: 0o700 })
  for (const folder of [dir, join(dir, 'users')]) chmodSync(folder, 0o711)
  await useServerKeys(authority)
  await Promise.all([
    authority.sign('ci', { cn: 'ci', names: ['URI:spiffe://example/ci'] }),
    authority.sign('dashboard', { cn: 'dashboard' }),
    authority.sign('expired', { cn: 'dashboard', expired: true }),
    other.sign('ci', { cn: 'ci', names: ['URI:spiffe://example/ci'] }),
  ])
  writeFileSync(join(dir, 'policy.toml'), POLICY, { mode: 0o600 })
  const tls = (name: string) => JSON.stringify(join(dir, 'tls', name))
  const config = `
[gateway]
socket = ${JSON.stringify(socket())}
group = ${BUILDERS}
policy = ${JSON.stringify(join(dir, 'policy.toml'))}
[gateway.tcp]
address = "127.0.0.1:0"
cert = ${tls('cert')}
key = ${tls('key')}
client_ca = ${tls('ca')}
[content]
docker_config = ${JSON.stringify(join(dir, 'docker.json'))}
`
  writeFileSync(join(dir, 'gantry.toml'), config)
  node = await startGantry(join(dir, 'root'), join(dir, 'state'), ['--config', join(dir, 'gantry.toml')])
}, 120_000)

afterAll(async () => {
  await node?.[Symbol.asyncDispose]()
  rmSync(dir, { recursive: true, force: true })
  await Promise.all([authority, other].map((made) => made?.[Symbol.asyncDispose]()))
})

/** Puts a server's certificate, its key and the authority of clients in place. */
async function useServerKeys(by: Authority): Promise<void> {
  const files = await by.server()
  for (const [name, from] of [
    ['cert', files.cert],
    ['key', files.key],
    ['ca', files.client_ca],
  ] as const)
    copyFileSync(from, join(dir, 'tls', name))
}

/** `ctr` as root, as a member of the group, or as somebody else. */
function ctr(who: 'root' | 'builder' | 'other', args: readonly string[]) {
  const groups = who === 'builder' ? ['--groups', BUILDERS] : ['--clear-groups']
  const as = who === 'root' ? [] : ['setpriv', '--reuid', NOBODY, '--regid', NOBODY, ...groups]
  return run([...as, 'ctr', '-a', socket(), ...args])
}

/** Our own command line over TCP. */
function gantry(name: string, args: readonly string[], { by = authority, ca = authority.ca } = {}) {
  const files = [
    '--tls-ca',
    ca,
    '--tls-cert',
    join(by.folder, `${name}.crt`),
    '--tls-key',
    join(by.folder, `${name}.key`),
  ]
  return run([GANTRY, '--address', `tcp://127.0.0.1:${port()}`, ...(name === '' ? [] : files), ...args])
}

function remote(name: string, namespace: string): GantryClient {
  const files = {
    cert: join(authority.folder, `${name}.crt`),
    key: join(authority.folder, `${name}.key`),
    ca: authority.ca,
  }
  return createClient({ address: `tcp://127.0.0.1:${port()}`, namespace, tls: readKeys(files) })
}

test('the group that may open the socket has its namespaces, root has all, others do not get in', async () => {
  const make = (who: 'root' | 'builder' | 'other', name: string) => ctr(who, ['namespaces', 'create', name])

  expect(await make('builder', 'ci-1')).toMatchObject({ code: 0 })
  expect(await make('root', 'theirs')).toMatchObject({ code: 0 })
  const refused = await make('builder', 'mine')
  const list = await ctr('builder', ['namespaces', 'ls', '-q'])
  const images = await ctr('builder', ['-n', 'theirs', 'images', 'ls'])
  const outside = await ctr('other', ['namespaces', 'ls'])

  expect(refused.stderr).toContain(
    `does not let uid ${NOBODY} call containerd.services.namespaces.v1.Namespaces/Create in namespace "mine"`,
  )
  expect(list.stdout).toBe('ci-1\n')
  expect(images.stderr).toContain(
    `does not let uid ${NOBODY} call containerd.services.images.v1.Images/List in namespace "theirs"`,
  )
  expect([outside.code === 0, outside.stderr]).toEqual([false, expect.stringContaining('permission denied')])
})

test('a certificate has what the policy binds to it, over TCP', async () => {
  const made = await gantry('ci', ['namespaces', 'create', 'ci-2'])
  const version = await gantry('dashboard', ['version'])
  const reading = await gantry('dashboard', ['--namespace', 'ci', 'images'])
  const writing = await gantry('dashboard', ['namespaces', 'create', 'ci'])

  expect([made, version, reading].map(({ code, stderr }) => [code, stderr])).toEqual(Array(3).fill([0, '']))
  expect(writing).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('does not let certificate "dashboard" call'),
  })
})

test.each([
  ['without a certificate', '', {}, 'cannot use TCP without --tls-ca'],
  ['with one that has expired', 'expired', {}, 'the client certificate (CN=dashboard) expired on'],
  ['with one of another authority', 'ci', { by: 'other' }, 'does not accept the client certificate'],
  ['by a client that does not trust the node', 'ci', { ca: 'other' }, 'not signed by the CA that you gave'],
])('a call over TCP %s is refused in words', async (_what, name, { by, ca }: { by?: string; ca?: string }, words) => {
  const from = { by: by ? other : authority, ca: ca ? other.ca : authority.ca }

  const { code, stderr } = await gantry(name, ['version'], from)

  expect([code, stderr]).toEqual([1, expect.stringContaining(words)])
})

test('nothing is served over TCP in plain text', async () => {
  const answer = spawnSync('/usr/bin/python3', ['-c', PLAIN, port()], { encoding: 'latin1', timeout: 20_000 })

  expect(answer.status).toBe(0)
  expect(answer.stdout).not.toContain('\0\0\0\x04') // the head of a frame of settings
})

const PLAIN = `
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5)
s.sendall(b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n" + b"\\0\\0\\0\\x04\\0\\0\\0\\0\\0")
try:
    sys.stdout.buffer.write(s.recv(100))
except ConnectionError:
    pass
`

test('E: a blob of another namespace is not had for knowing its digest', async () => {
  const bytes = Buffer.from(`secret ${Math.random()}`)
  const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`
  const total = BigInt(bytes.length)
  await using root = createClient({ address: socket(), namespace: 'theirs' })
  await using ci = remote('ci', 'ci')
  const labels = { 'containerd.io/gc.root': 'yes' }
  async function* whole() {
    yield { action: WriteAction.COMMIT, ref: 'r', total, expected: digest, data: bytes, labels }
  }
  async function* claim() {
    yield { action: WriteAction.STAT, ref: 'r', total, expected: digest }
  }
  const offsets = async (client: GantryClient) =>
    (await Array.fromAsync(client.services.content.write(claim(), client.call(never)))).map(({ offset }) => offset)

  await Array.fromAsync(root.services.content.write(whole(), root.call(never)))
  await using shared = createClient({ address: socket(), namespace: 'third' })
  const [restricted, open] = [await offsets(ci), await offsets(shared)]
  const found = await ci.services.content.info({ digest }, ci.call(never)).catch((error: unknown) => error)
  await root.services.content.delete({ digest }, root.call(never))

  expect(restricted).toEqual([0n, 0n])
  expect(open).toEqual([total, total]) // as containerd does for whoever may do everything
  expect(found).toMatchObject({ code: 'not-found' })
})

test('what the node has to get into registries is for nobody whom the policy keeps to namespaces', async () => {
  const seen: string[] = []
  const registry = createServer(({ headers }, response) => {
    seen.push(headers.authorization ?? '')
    response.writeHead(headers.authorization ? 404 : 401, { 'www-authenticate': 'Basic realm="x"' }).end()
  }).listen(0, '127.0.0.1')
  await once(registry, 'listening')
  const bound = registry.address()
  const host = `127.0.0.1:${typeof bound === 'object' ? bound?.port : ''}`
  const auth = Buffer.from('node:secret').toString('base64')
  writeFileSync(join(dir, 'docker.json'), JSON.stringify({ auths: { [host]: { auth } } }))
  const pull = async (client: GantryClient, hostDir = '') => {
    const from = create(OCIRegistrySchema, { reference: `${host}/a:1`, resolver: { hostDir } })
    const source = { typeUrl: OCIRegistrySchema.typeName, value: toBinary(OCIRegistrySchema, from) }
    const destination = { typeUrl: ImageStoreSchema.typeName, value: new Uint8Array() }
    const call = client.services.transfer.transfer({ source, destination }, client.call(never))
    const { code } = await call.then(
      () => ({ code: 'ok' }),
      ({ code }: { code: string }) => ({ code }),
    )
    return [code, seen.splice(0).filter((header) => header !== '')]
  }
  await using root = createClient({ address: socket(), namespace: 'ci' })
  await using ci = remote('ci', 'ci')

  const found = [await pull(root), await pull(ci), await pull(ci, dir), await pull(root, dir)]
  registry.close()

  const got = ['not-found', [`Basic ${auth}`]]
  expect(found).toEqual([got, ['unauthenticated', []], ['permission-denied', []], got])
})

test('events of other namespaces are not heard', async () => {
  await using ci = remote('ci', 'ci')
  const stop = new AbortController()
  const heard: string[] = []
  const hearing = (async () => {
    for await (const { namespace } of ci.events.subscribe({ from: new Date(0) }, stop.signal)) heard.push(namespace)
  })()

  await ctr('root', ['namespaces', 'create', 'theirs-2'])
  await ctr('root', ['namespaces', 'create', 'ci-last'])
  await until('the last event is heard', () => heard.includes('ci-last'))
  stop.abort()
  await hearing

  expect(heard.filter((namespace) => !/^ci(-|$)/.test(namespace))).toEqual([])
})

test.each([
  ['ci-1.>', '/t'],
  ['ci-*', '/t'],
  ['ci-1', '/a.*/b'],
  ['ci-1', '/a/>'],
  ['ci-1', '/a b'],
  ['ci-1', '//'],
  ['ci-1', 'gantry.audit'],
])('E: an event of namespace %j and topic %j is refused, and lies nowhere', async (namespace, topic) => {
  await using ci = remote('ci', 'ci')
  const event = { typeUrl: 'x', value: new Uint8Array() }
  const envelope = { namespace, topic, event, timestamp: { seconds: 1n } }

  const call = ci.services.events.forward({ envelope }, ci.call(never))

  await expect(call).rejects.toMatchObject({ code: 'invalid-argument' })
})

test('a changed policy is in force soon, and one that cannot be used is not', async () => {
  const file = join(dir, 'policy.toml')
  const may = async () => (await ctr('builder', ['-n', 'new', 'images', 'ls'])).code === 0
  expect(await may()).toBe(false)

  writeFileSync(file, POLICY.replaceAll('"ci-*"', '"ci-*", "new"'))
  await until('the policy is in force', may)
  writeFileSync(file, '[[allow')
  await until('the mistake is told', () => node.daemon.log().includes('Changed files cannot be used'))

  expect(await may()).toBe(true)
  writeFileSync(file, POLICY)
  await until('the policy is as it was', async () => !(await may()))
})

test('certificates and authorities are renewed without a restart', async () => {
  const mine = () => gantry('ci', ['version'], { by: other, ca: other.ca })
  expect((await mine()).code).toBe(1)

  await useServerKeys(other)
  await until('the new keys are in force', async () => (await mine()).code === 0)
  const old = await gantry('ci', ['version'])
  await useServerKeys(authority)
  await until('the old keys are back', async () => (await gantry('ci', ['version'])).code === 0)

  expect(old.code).toBe(1)
})

test('the audit log tells who changed what and who was refused, also across the end of a gateway', async () => {
  const since = new Date().toISOString()
  await ctr('builder', ['-n', 'ci', 'leases', 'create', '--id', 'mine'])
  await ctr('builder', ['-n', 'theirs', 'images', 'ls'])
  await ctr('root', ['-n', 'ci', 'images', 'ls'])
  const records = async () => {
    const { stdout } = await run([GANTRY, '--address', socket(), 'audit', '--since', since, '--json'])
    return stdout
      .split('\n')
      .filter((line) => line !== '')
      .map((line): Record<string, unknown> => JSON.parse(line))
  }
  const refused = await gantry('ci', ['audit'])
  await until('the calls are noted', async () => (await records()).length >= 3)
  await signal(node, 'gateway', 'SIGKILL')
  await until('the gateway is back', async () => (await ctr('root', ['version'])).code === 0)

  const local = { caller: `uid ${NOBODY}`, uid: Number(NOBODY), gid: Number(NOBODY), pid: expect.any(Number) }
  expect(await records()).toMatchObject([
    { ...local, method: 'containerd.services.leases.v1.Leases/Create', namespace: 'ci', target: 'mine', result: 'OK' },
    { ...local, method: 'containerd.services.images.v1.Images/List', namespace: 'theirs', result: 'PERMISSION_DENIED' },
    { caller: 'certificate "ci"', method: 'gantry.audit.v1.Audit/Read', result: 'PERMISSION_DENIED' },
  ])
  expect(refused.stderr).toContain('does not let certificate "ci" call gantry.audit.v1.Audit/Read')
})
