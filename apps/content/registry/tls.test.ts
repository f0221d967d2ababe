import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TLSSocket } from 'node:tls'
import { MEDIA } from '@gantry/model/descriptor'
import { sha256Of } from '@gantry/model/digest'
import { parseReference } from '@gantry/model/reference'
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { startServer } from '../testing/server.ts'
import { createHosts } from './hosts.ts'
import { createRegistry } from './registry.ts'
import { createTransport } from './transport.ts'

const BLOB = Buffer.from('some bytes')
const DESCRIPTOR = { mediaType: MEDIA.ociLayer, digest: sha256Of(BLOB), size: BigInt(BLOB.length) }
const NO_PROXY = { httpProxy: '', httpsProxy: '', noProxy: '' }
const signal = AbortSignal.timeout(120_000)

function certificate(name: string): string {
  const key = 'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout - -out -'.split(' ')
  const names = ['-subj', `/CN=${name}`, '-addext', `subjectAltName=DNS:${name},IP:127.0.0.1`]
  return spawnSync('openssl', [...key, ...names]).stdout.toString()
}

describe.skipIf(spawnSync('openssl', ['version']).status !== 0)('over TLS', () => {
  const server = certificate('localhost')
  const client = certificate('me')
  let dir = ''

  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'gantry-tls-'))
    onTestFinished(() => rm(dir, { recursive: true }))
  })

  const write = async (path: string, text: string): Promise<void> => {
    await mkdir(join(dir, path, '..'), { recursive: true })
    await writeFile(join(dir, path), text)
  }

  function openRegistry(proxy = NO_PROXY) {
    const transport = createTransport({ proxy, stallMs: 2000 })
    onTestFinished(async () => await transport[Symbol.asyncDispose]())
    return createRegistry({ transport, now: Date.now, stallMs: 2000, backoffMs: 1, hosts: createHosts(dir) })
  }

  async function fetchBlob(host: string, registry = openRegistry(), asStranger = false): Promise<string> {
    const source = { reference: parseReference(`${host}/team/app:1`), defaultScheme: '', headers: {}, asStranger }
    const chunks = []
    for await (const chunk of registry.fetch(source, DESCRIPTOR, 0n, signal)) chunks.push(chunk)
    return Buffer.concat(chunks).toString()
  }

  const untrusted = { code: 'failed-precondition', message: expect.stringMatching(/its certificate is not trusted/) }

  test('a CA of hosts.toml vouches for its host', async () => {
    const host = await startServer(onTestFinished, (_, response) => response.end(BLOB), { key: server, cert: server })
    await write('_default/hosts.toml', `server = "https://${host}"`)
    await expect(fetchBlob('reg.test')).rejects.toMatchObject(untrusted)

    await write('_default/ca.crt', server)
    await write('_default/hosts.toml', `server = "https://${host}"\nca = "ca.crt"`)

    expect(await fetchBlob('reg.test')).toBe('some bytes')
  })

  test('a client certificate is shown to the host it is for', async () => {
    const tls = { key: server, cert: server, ca: client, requestCert: true, rejectUnauthorized: true }
    const seen: string[] = []
    const host = await startServer(
      onTestFinished,
      (request, response) => {
        const socket = request.socket as TLSSocket
        seen.push(String(socket.getPeerCertificate().subject.CN))
        response.end(BLOB)
      },
      tls,
    )
    await write(`${host}/ca.crt`, server)
    await write(`${host}/me.cert`, client)
    await write(`${host}/me.key`, client)
    await write(`${host}/hosts.toml`, `server = "https://${host}"\nca = "ca.crt"\nclient = [["me.cert", "me.key"]]`)

    expect(await fetchBlob(host)).toBe('some bytes')
    expect(seen).toEqual(['me'])
  })

  test('a stranger gets neither certificate nor header of the host, nor a token that they brought', async () => {
    const tls = { key: server, cert: server, ca: client, requestCert: true, rejectUnauthorized: false }
    const seen: string[] = []
    const host = await startServer(
      onTestFinished,
      ({ socket, headers, url = '' }, response) => {
        const { CN: cn = 'nobody' } = (socket as TLSSocket).getPeerCertificate().subject ?? {}
        const { authorization = '-', 'x-key': key = '-', host: self } = headers
        seen.push(`${cn} ${key} ${authorization}`)
        if (url.startsWith('/token')) response.writeHead(cn === 'me' ? 200 : 401).end('{"token":"let-in"}')
        else if (authorization === 'Bearer let-in') response.end(BLOB)
        else response.writeHead(401, { 'www-authenticate': `Bearer realm="https://${self}/token"` }).end()
      },
      tls,
    )
    await write('_default/ca.crt', server)
    await write('_default/me.pem', client)
    const settings = 'ca = "ca.crt"\nclient = "me.pem"'
    await write('_default/hosts.toml', `server = "https://${host}"\n${settings}`)
    const registry = openRegistry()

    expect(await fetchBlob(host, registry)).toBe('some bytes')
    await write('_default/hosts.toml', `server = "https://${host}"\n${settings}\nheader = { X-Key = "k" }`)
    expect(await fetchBlob(host, registry)).toBe('some bytes')
    expect(new Set(seen)).toEqual(new Set(['me - -', 'me - Bearer let-in', 'me k -', 'me k Bearer let-in']))
    seen.length = 0
    await expect(fetchBlob(host, registry, true)).rejects.toMatchObject({ code: 'unauthenticated' })

    expect(new Set(seen)).toEqual(new Set(['nobody - -']))
  })

  test('CVE-2020-15157: neither a client certificate nor skip_verify is for the host of a redirect', async () => {
    const seen: unknown[] = []
    const tls = { key: server, cert: server, requestCert: true, rejectUnauthorized: false }
    const cdn = await startServer(onTestFinished, (_, response) => seen.push(1) && response.end(BLOB), tls)
    const answer = { location: `https://${cdn}/blob` }
    const host = await startServer(onTestFinished, (_, response) => response.writeHead(307, answer).end(), tls)
    await write('_default/me.pem', client)
    await write('_default/hosts.toml', `server = "https://${host}"\nskip_verify = true\nclient = "me.pem"`)

    await expect(fetchBlob('reg.test')).rejects.toMatchObject(untrusted)
    expect(seen).toEqual([])
  })

  test('skip_verify takes any certificate of its host', async () => {
    const host = await startServer(onTestFinished, (_, response) => response.end(BLOB), { key: server, cert: server })
    await write('_default/hosts.toml', `server = "https://${host}"\nskip_verify = true`)

    expect(await fetchBlob('reg.test')).toBe('some bytes')
  })

  test('CVE-2025-6032: a bad certificate fails, and plain HTTP is not tried instead', async () => {
    const plain: unknown[] = []
    const host = await startServer(onTestFinished, (_, response) => plain.push(1) && response.end(BLOB))
    await write('_default/hosts.toml', `server = "https://${host}"\nskip_verify = true`)

    await expect(fetchBlob('reg.test')).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringMatching(/does not speak TLS, and plain HTTP was not asked for/),
    })
    expect(plain).toEqual([])
  })

  test('a CA counts also through a proxy, and only the proxy is dialled', async () => {
    const host = await startServer(onTestFinished, (_, response) => response.end(BLOB), { key: server, cert: server })
    const asked: string[] = []
    const proxy = createServer().listen(0, '127.0.0.1')
    const tunnels = new Set<Socket>()
    proxy.on('connect', (request, socket: Socket) => {
      asked.push(request.url ?? '')
      const [address, port] = host.split(':')
      const upstream = connect(Number(port), address, () => {
        socket.write('HTTP/1.1 200 OK\r\n\r\n')
        upstream.pipe(socket).pipe(upstream)
      })
      for (const one of [socket, upstream]) tunnels.add(one.on('error', () => undefined))
    })
    await once(proxy, 'listening')
    onTestFinished(() => {
      for (const socket of tunnels) socket.destroy()
      proxy.close()
    })
    const bound = proxy.address()
    const url = `http://127.0.0.1:${typeof bound === 'object' ? bound?.port : ''}`
    const through = { httpProxy: url, httpsProxy: url, noProxy: '' }
    const toml = 'server = "https://reg.test"'
    await write('_default/ca.crt', server)
    await write('_default/hosts.toml', `${toml}\nca = "ca.crt"`)

    // the certificate is for another name: the connection was made, the name was checked
    await expect(fetchBlob('reg.test', openRegistry(through))).rejects.toMatchObject({
      message: expect.stringMatching(/not trusted \(ERR_TLS_CERT_ALTNAME_INVALID\)/),
    })
    await write('_default/hosts.toml', `${toml}\nskip_verify = true`)
    expect(await fetchBlob('reg.test', openRegistry(through))).toBe('some bytes')
    await write('_default/hosts.toml', toml)
    await expect(fetchBlob('reg.test', openRegistry(through))).rejects.toMatchObject(untrusted)
    expect(new Set(asked)).toEqual(new Set(['reg.test:443']))
  })
})
