import { readFileSync, rmSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { connect as connectHttp2 } from 'node:http2'
import { type AddressInfo, createServer, connect as dial, type Socket } from 'node:net'
import { join } from 'node:path'
import { connect as dialTls } from 'node:tls'
import { Version } from '@gantry/api/containerd/services/version/v1/version_pb'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { type Authority, createAuthority, type Subject } from './certificates.fixture.ts'
import { clientOf, connect } from './client.ts'
import { listenTls } from './server.ts'
import { bind } from './service.ts'
import { readKeys, readTls, type TlsFiles, type TlsKeys } from './tls.ts'

const log = { error: () => undefined, debug: () => undefined }
const signal = AbortSignal.timeout(60_000)

vi.setConfig({ testTimeout: 30_000, hookTimeout: 30_000 }) // openssl takes its time on a busy machine

let authority: Authority
let other: Authority
let mine: TlsKeys
let server: TlsFiles
beforeAll(async () => {
  ;[authority, other] = await Promise.all([createAuthority(), createAuthority()])
  server = await authority.server()
  mine = readKeys({ ...(await authority.sign('mine', { cn: 'client' })), ca: authority.ca })
})
afterAll(async () => {
  await authority[Symbol.asyncDispose]()
  await other[Symbol.asyncDispose]()
})

async function serve() {
  const bindings = [bind(Version, { version: async () => ({ version: '1' }) })]
  return listenTls({ host: '127.0.0.1', port: 0, keys: readTls(server), bindings, log })
}

/** Keys of a client that trusts `authority`. */
async function keysOf(subject: Partial<Subject>, signer = authority): Promise<TlsKeys> {
  return readKeys({ ...(await signer.sign('client', { cn: 'client', ...subject })), ca: authority.ca })
}

async function ask(port: number, keys: TlsKeys, host = '127.0.0.1') {
  await using channel = connect(`tcp://${host}:${port}`, keys)
  return await clientOf(Version, channel).version({}, { signal, waitMs: 2000 })
}

test('a client with a certificate of the authority is answered', async () => {
  await using server = await serve()

  expect(await ask(server.port, mine)).toMatchObject({ version: '1' })
})

test.each([
  ['that has expired', async () => keysOf({ expired: true }), /client certificate .*expired on/],
  ['of another authority', async () => keysOf({}, other), /does not accept the client certificate/],
])('a client certificate %s is refused in words', async (_what, keys, words) => {
  await using server = await serve()

  const call = ask(server.port, await keys())

  await expect(call).rejects.toMatchObject({ code: 'unauthenticated', message: expect.stringMatching(words) })
})

test('a server that the client has no reason to trust is told apart from one that is not there', async () => {
  await using server = await serve()
  const { port } = server
  const strange = ask(port, { ...mine, ca: readFileSync(other.ca) })
  await expect(strange).rejects.toMatchObject({
    code: 'unauthenticated',
    message: /not signed by the CA that you gave/,
  })
  const elsewhere = ask(port, mine, 'localhost')
  await expect(elsewhere).rejects.toMatchObject({ code: 'unauthenticated', message: /for another host/ })

  await server[Symbol.asyncDispose]()

  await expect(ask(port, mine)).rejects.toMatchObject({ code: 'unavailable', message: /ECONNREFUSED/ })
})

test('nobody without a certificate, without TLS, or with an old TLS gets a word of HTTP/2', async () => {
  await using server = await serve()
  const outcome = (socket: NodeJS.EventEmitter & { destroy(): unknown }) =>
    new Promise<string>((resolve) => {
      socket.once('data', () => resolve('data'))
      socket.once('close', () => resolve('closed'))
      socket.on('error', () => undefined)
    })
  const to = { host: '127.0.0.1', port: server.port }

  const bare = dialTls({ ...to, ca: mine.ca, ALPNProtocols: ['h2'] })
  const old = dialTls({ ...to, ...mine, minVersion: 'TLSv1', maxVersion: 'TLSv1.1' })
  const plain = dial(to)
  plain.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0')

  expect(await Promise.all([bare, old, plain].map(outcome))).toEqual(['closed', 'closed', 'closed'])
})

test('a session of TLS is not taken up again: its certificate is looked at each time', async () => {
  await using server = await serve()
  const sessions: Buffer[] = []
  const first = connectHttp2(`https://127.0.0.1:${server.port}`, { ...mine })
  const { socket } = first as unknown as { socket: NodeJS.EventEmitter }
  socket.on('session', (session: Buffer) => sessions.push(session))
  await new Promise((resolve) => first.once('remoteSettings', resolve))
  await new Promise<void>((resolve) => first.close(resolve))

  const again = dialTls({ host: '127.0.0.1', port: server.port, ...mine, ALPNProtocols: ['h2'], session: sessions[0] })
  await new Promise((resolve) => again.once('secureConnect', resolve))
  const reused = again.isSessionReused()
  again.destroy()

  expect(reused).toBe(false)
})

test('keys are renewed while it serves: the next connection is met with them', async () => {
  await using server = await serve()
  await ask(server.port, mine)
  const files = await other.server()

  server.renew(readTls({ ...files, client_ca: other.ca }))

  await expect(ask(server.port, mine)).rejects.toMatchObject({ code: 'unauthenticated' })
  expect(await ask(server.port, { ...(await keysOf({}, other)), ca: readFileSync(other.ca) })).toMatchObject({
    version: '1',
  })
})

test('a node that is gone without a word is noticed by who waits for it', async () => {
  const asked = Promise.withResolvers<void>()
  const version = () => {
    asked.resolve()
    return new Promise<never>(() => undefined)
  }
  const bindings = [bind(Version, { version })]
  await using node = await listenTls({ host: '127.0.0.1', port: 0, keys: readTls(server), bindings, log })
  const cables: Socket[] = []
  const network = createServer((socket) => {
    const onward = dial(node.port)
    cables.push(socket, onward)
    socket.pipe(onward).pipe(socket)
  }).listen(0)
  const { port } = network.address() as AddressInfo
  await using channel = connect(`tcp://127.0.0.1:${port}`, mine)
  await channel.ready(10_000)

  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  const call = clientOf(Version, channel).version({}, { signal })
  const failed = expect(call).rejects.toMatchObject({ code: 'unavailable' })
  await asked.promise
  for (const cable of cables) cable.unpipe().pause()
  await vi.advanceTimersByTimeAsync(10 * 60_000)
  vi.useRealTimers()
  await failed

  for (const cable of cables) cable.destroy()
  await new Promise((resolve) => network.close(resolve))
})

test('files that do not fit together are told by their names', async () => {
  const { cert, key } = server
  const foreign = join(authority.folder, 'mine.key')
  const empty = join(authority.folder, 'empty')
  await writeFile(empty, '')

  expect(() => readTls({ cert, key: foreign, client_ca: authority.ca })).toThrow(/server\.crt with .*mine\.key: /)
  expect(() => readTls({ cert: empty, key, client_ca: authority.ca })).toThrow(/empty: there is no PEM certificate/)
  rmSync(empty)
  expect(() => readTls({ cert, key, client_ca: empty })).toThrow(/Cannot read .*empty: there is no such file/)
})

test.each(['tcp://', 'tcp://host', 'tcp://host:0', 'tcp://host:4000/path', 'tcp://a@host:4000'])(
  'the address %s is refused',
  (address) => {
    expect(() => connect(address)).toThrow('write it as tcp://host:port')
  },
)

test('there is no TCP without a client certificate', () => {
  expect(() => connect('tcp://127.0.0.1:4000')).toThrow('only served with TLS')
})
