import { readFileSync } from 'node:fs'
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { runHelper } from './credential-helper.ts'
import { createKeyring, type Keyring } from './credentials.ts'
import { dockerConfigFile, isSameServer } from './docker-config.ts'

const signal = AbortSignal.timeout(20_000)
const AUTH = Buffer.from('alice:pass:word').toString('base64')
let folder = ''
let file = ''

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gantry-login-'))
  file = join(folder, 'config.json')
})

afterEach(async () => {
  await rm(folder, { recursive: true })
})

const env = () => ({ PATH: `${folder}:${process.env.PATH}`, STORE: join(folder, 'store') })
const keyring = (): Keyring => createKeyring({ file, env: env() })
const find = (host: string) => keyring().find(host, signal)
const config = (value: unknown) => writeFile(file, typeof value === 'string' ? value : JSON.stringify(value))
const saved = async () => JSON.parse(await readFile(file, 'utf8'))

/** A helper that keeps one entry in a file, unless its script says otherwise. */
async function helper(
  name: string,
  script = 'cat "$STORE" 2>/dev/null || { echo "credentials not found in native keychain"; exit 1; }',
) {
  const text = `#!/bin/sh\ncase $1 in store) cat > "$STORE";; erase) rm "$STORE";; get) ${script};; esac\n`
  await writeFile(join(folder, `docker-credential-${name}`), text)
  await chmod(join(folder, `docker-credential-${name}`), 0o755)
}

test.each([
  ['reg:5000', { 'reg:5000': { auth: AUTH } }, 'alice', 'pass:word'],
  ['reg', { 'https://reg/v2/': { auth: AUTH } }, 'alice', 'pass:word'],
  ['registry-1.docker.io', { 'https://index.docker.io/v1/': { auth: AUTH } }, 'alice', 'pass:word'],
  ['reg', { reg: { auth: AUTH, identitytoken: 'token' } }, '', 'token'],
  ['reg', { reg: { username: 'bob', password: 'word' } }, 'bob', 'word'],
])('the entry of %s is found in the file', async (host, auths, username, secret) => {
  await config({ auths })

  expect(await find(host)).toEqual({ username, secret, from: file })
})

test.each([undefined, '', '{}', '{"auths":[]}', '{"auths":{"other":{"auth":"eA=="}}}', '{"auths":{"reg":{}}}'])(
  'a file that says %j has nothing',
  async (text) => {
    if (text !== undefined) await config(text)

    expect(await find('reg')).toBeUndefined()
  },
)

test.each([
  ['{"auths": {"reg": {"auth": "hunter2"', 'it is not JSON'],
  [{ auths: { reg: { auth: 'aHVudGVyMg==' } } }, 'the entry of reg is malformed'],
])('a broken file is named and not quoted', async (text, message) => {
  await config(text)

  const error = await find('reg').catch((error: unknown) => error)

  expect(String(error)).toContain(message)
  expect(String(error)).toContain(file)
  expect(String(error)).not.toMatch(/hunter2|aHVudGVyMg/)
})

test('what is stored is found, is for its owner only, and leaves the rest as it was', async () => {
  await config({ auths: { other: { auth: AUTH } }, proxies: { default: {} } })

  expect(await keyring().store('reg', { username: 'bob', secret: 'word' }, signal)).toBe(file)

  expect(await find('reg')).toEqual({ username: 'bob', secret: 'word', from: file })
  expect((await saved()).proxies).toEqual({ default: {} })
  expect((await stat(file)).mode & 0o777).toBe(0o600)
  expect(await keyring().erase('https://reg', signal)).toBe(file)
  expect(await keyring().erase('reg', signal)).toBeUndefined()
  expect((await saved()).auths).toEqual({ other: { auth: AUTH } })
})

test('a helper keeps what it is there for, and the file only says that it does', async () => {
  await helper('box')
  await config({ credHelpers: { reg: 'box' } })

  expect(await keyring().store('reg', { username: 'bob', secret: 'word' }, signal)).toBe('docker-credential-box')

  expect((await saved()).auths).toEqual({ reg: {} })
  expect(await find('reg')).toEqual({ username: 'bob', secret: 'word', from: 'docker-credential-box' })
  expect(await find('other')).toBeUndefined()
  expect(await keyring().erase('reg', signal)).toBe('docker-credential-box')
  expect(await find('reg')).toBeUndefined()
  expect((await saved()).auths).toEqual({})
})

test('a helper may give an identity token, and is asked for the name Docker uses', async () => {
  await helper('box', `read -r server; echo "{\\"Username\\":\\"<token>\\",\\"Secret\\":\\"for $server\\"}"`)
  await config({ credsStore: 'box' })

  expect(await find('docker.io')).toMatchObject({ username: '', secret: 'for https://index.docker.io/v1/' })
})

test.each([
  ['is not there', undefined, /docker-credential-box: ENOENT/],
  ['fails', 'echo hunter2; echo hunter2 >&2; exit 3', /it ends with 3$/],
  ['answers nonsense', 'echo hunter2', /it answers nonsense$/],
  ['talks without end', 'yes hunter2', /more than 65536 bytes$/],
])('a helper that %s is a clear failure that shows no secret', async (_what, script, message) => {
  if (script !== undefined) await helper('box', script)
  await config({ credsStore: 'box' })

  const error = await find('reg').catch((error: unknown) => error)

  expect(error).toMatchObject({ code: 'failed-precondition', message: expect.stringMatching(message) })
  expect(String(error)).not.toContain('hunter2')
})

test('a helper that hangs is ended with all that it started', async () => {
  await helper('box', 'sleep 60 & echo $! > "$STORE"; wait')

  const run = { name: 'box', action: 'get' as const, input: 'reg', env: env(), timeoutMs: 300 }
  await expect(runHelper(run, signal)).rejects.toThrow('no answer within 0.3 s')

  const pid = Number(await readFile(join(folder, 'store'), 'utf8'))
  await expect.poll(() => isRunning(pid)).toBe(false)
})

test('a helper that leaves a daemon with its output behind is not waited for without end', async () => {
  await helper('box', 'setsid sleep 60 & echo $! > "$STORE"')

  const run = { name: 'box', action: 'get' as const, input: 'reg', env: env(), timeoutMs: 300 }
  await expect(runHelper(run, signal)).rejects.toThrow('no answer within 0.3 s')

  process.kill(Number(await readFile(join(folder, 'store'), 'utf8')))
})

test.each(['../box', '', 'a b', '/bin/sh'])('%j is no name of a helper', async (name) => {
  await expect(runHelper({ name, action: 'get', input: '', env: env() }, signal)).rejects.toThrow('bad name')
})

test('the file is where Docker has it', () => {
  expect(dockerConfigFile({ DOCKER_CONFIG: '/d', HOME: '/h' })).toBe('/d/config.json')
  expect(dockerConfigFile({ HOME: '/h' })).toBe('/h/.docker/config.json')
  expect(dockerConfigFile({})).toBeUndefined()
  expect(isSameServer('https://index.docker.io/v1/', 'docker.io')).toBe(true)
  expect(isSameServer('reg:5000', 'reg')).toBe(false)
})

/** One that is dead but not waited for has ended, too. */
function isRunning(pid: number): boolean {
  try {
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}
