/** Registries that want to know who asks: login, the credentials of a client, and what `registry explain` tells. */
import { spawn } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { ImageStoreSchema } from '@gantry/api/containerd/types/transfer/imagestore_pb'
import { HTTPDebug, OCIRegistrySchema } from '@gantry/api/containerd/types/transfer/registry_pb'
import { DataSchema, WindowUpdateSchema } from '@gantry/api/containerd/types/transfer/streaming_pb'
import { pack } from '@gantry/client/any'
import { createClient } from '@gantry/client/client'
import { messagesOf, openStream } from '@gantry/client/stream'
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { run } from './harness/command.ts'
import { GANTRY, gantryEnv } from './harness/gantry.ts'
import { makeImage } from './harness/image.ts'
import { type Registry, startRegistry } from './harness/registry.ts'
import { onGantry } from './harness/target.ts'

const SECRET = 'pass:word'
const USERS = 'alice:$2b$04$hQnKb4SQBoLJrrGWZeHstu837aW4FtPyk9AuQpVbmDJl.amKiXuuq\n' // the secret, in bcrypt
const DIGEST = makeImage().manifest.digest
const HELPER = `#!/bin/sh
case $1 in
  store) cat > "$DOCKER_CONFIG/kept";;
  get) cat "$DOCKER_CONFIG/kept" 2>/dev/null || { echo credentials not found in native keychain; exit 1; };;
  erase) rm "$DOCKER_CONFIG/kept";;
esac
`

onGantry((target) => {
  let registry: Registry
  let dir = ''
  const image = inject('image')
  const name = () => `${registry.host}/team/app:1`
  const env = () => ({
    ...gantryEnv(target().address, target().namespace),
    ...{ DOCKER_CONFIG: dir, PATH: `${dir}:${process.env.PATH}` },
  })
  const gantry = (...args: string[]) => run([GANTRY, ...args], { env: env(), timeoutMs: 60_000 })
  const ctr = (...args: string[]) =>
    run(['ctr', '-a', target().address, '-n', target().namespace, ...args], { timeoutMs: 60_000 })

  async function login(secret: string): Promise<{ code: number | null; said: string }> {
    const argv = ['login', registry.host, '-u', 'alice', '--password-stdin']
    const child = spawn(GANTRY, argv, { env: { ...process.env, ...env() } })
    child.stdin.end(`${secret}\n`)
    const code = new Promise<number | null>((resolve) => child.on('close', resolve))
    const said = (await Promise.all([text(child.stdout), text(child.stderr)])).join('')
    return { code: await code, said }
  }

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'gantry-login-'))
    registry = await startRegistry({ users: USERS })
    await target().pull()
  })
  afterAll(async () => {
    await registry[Symbol.asyncDispose]()
    rmSync(dir, { recursive: true, force: true })
  })

  test('nobody gets in without a login', async () => {
    const { code, stderr } = await gantry('push', image, name())

    expect(code).toBe(1)
    expect(stderr).toMatch(/wants a name and a password; see "gantry login"/)
  })

  test('a wrong password is not kept', async () => {
    const { code, said } = await login('wrong-password')

    expect(code).toBe(1)
    expect(said).toMatch(/answers 401/)
    expect(said).not.toContain('wrong-password')
    expect(existsSync(join(dir, 'config.json'))).toBe(false)
  })

  test('after a login images go there and come back', async () => {
    expect(await login(SECRET)).toEqual({
      ...{ code: 0, said: `Logged in to ${registry.host} as alice: kept in ${join(dir, 'config.json')}\n` },
    })
    expect(statSync(join(dir, 'config.json')).mode & 0o777).toBe(0o600)

    expect(await gantry('push', '-q', image, name())).toEqual({ code: 0, stdout: `${name()}\n`, stderr: '' })
    expect(await gantry('pull', name())).toMatchObject({ code: 0, stdout: expect.stringContaining(DIGEST) })
  })

  test('login asks on a terminal, which shows nothing of the answer', async () => {
    const command = `exec ${GANTRY} login ${registry.host} -u alice`
    const child = spawn('script', ['-qec', command, '/dev/null'], { env: { ...process.env, ...env() } })
    let said = ''
    child.stdout.on('data', (chunk) => {
      const asked = said.includes('Password: ')
      said += chunk
      if (!asked && said.includes('Password: ')) child.stdin.write(`${SECRET}\r`)
    })
    const code = await new Promise((resolve) => child.on('close', resolve))

    expect([code, said.replaceAll('\r', '')]).toEqual([
      0,
      `Password: \nLogged in to ${registry.host} as alice: kept in ${join(dir, 'config.json')}\n`,
    ])
    expect((await gantry('login', registry.host, '-u', 'alice')).stderr).toMatch(/no terminal; use --password-stdin/)
  })

  test('ctr pulls with a password of its own', async () => {
    const plain = ['images', 'pull', '--plain-http']

    expect(await ctr(...plain, '-u', `alice:${SECRET}`, name())).toMatchObject({ code: 0 })
    const { code, stderr } = await ctr(...plain, '-u', 'alice:wrong', name())
    expect([code, stderr.includes('wrong')]).toEqual([1, false])
  })

  test('a client is told what is asked of the registry and what it answers, and no secret', async () => {
    const { namespace, address } = target()
    const signal = AbortSignal.timeout(60_000)
    await using client = createClient({ address, namespace })
    await using stream = await openStream(client, 'http-debug-logs', signal)
    stream.send(pack(WindowUpdateSchema, { update: 1024 * 1024 }))
    const headers = { authorization: `Basic ${Buffer.from(`alice:${SECRET}`).toString('base64')}` }
    const resolver = { headers, httpDebug: HTTPDebug.DEBUG, logsStream: stream.id }
    const source = pack(OCIRegistrySchema, { reference: name(), resolver })
    const destination = pack(ImageStoreSchema, { name: name() })

    const pulled = client.services.transfer.transfer({ source, destination }, client.call(signal))
    const said = (await Array.fromAsync(messagesOf(stream, DataSchema))).map(({ data }) => Buffer.from(data)).join('')
    await pulled

    const asked = `HEAD http://${registry.host}/v2/team/app/manifests/1`
    expect(said.split('\n')).toEqual(
      expect.arrayContaining([`> ${asked}`, '> authorization: ***', `< docker-content-digest: ${DIGEST}`]),
    )
    expect(said).toContain(`\n< 200 ${asked} (`)
    expect(said).not.toContain(headers.authorization.slice(-16))
  })

  test('explain says what the registry answers and whose credentials it got', async () => {
    const { code, stdout } = await gantry('registry', 'explain', name())

    expect(code).toBe(0)
    expect(stdout.split('\n').map((line) => line.trim())).toEqual([
      name(),
      `1. http://${registry.host}/v2/team/app/manifests/1`,
      'from:         default',
      'for:          pull, resolve, push, referrers',
      `credentials:  ${join(dir, 'config.json')}`,
      expect.stringMatching(`^answer: {7}200: application/vnd\\.\\S+ ${DIGEST}$`),
      '',
    ])
  })

  test('after a logout it is as before', async () => {
    expect(await gantry('logout', registry.host)).toMatchObject({ code: 0 })

    expect(JSON.parse(readFileSync(join(dir, 'config.json'), 'utf8'))).toEqual({ auths: {} })
    expect((await gantry('pull', name())).code).toBe(1)
  })

  test('a credential helper keeps the password, and no file does', async () => {
    writeFileSync(join(dir, 'docker-credential-box'), HELPER)
    chmodSync(join(dir, 'docker-credential-box'), 0o755)
    writeFileSync(join(dir, 'config.json'), '{"credsStore":"box"}')

    expect((await login(SECRET)).said).toMatch(/kept in docker-credential-box$/m)

    expect(readFileSync(join(dir, 'config.json'), 'utf8')).not.toMatch(
      Buffer.from(SECRET).toString('base64').slice(0, 8),
    )
    expect((await gantry('pull', name())).code).toBe(0)
    expect((await gantry('logout', registry.host)).stdout).toMatch(/no longer in docker-credential-box$/m)
    expect(existsSync(join(dir, 'kept'))).toBe(false)
  })
})
