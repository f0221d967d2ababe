import { chmod, mkdir, mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MEDIA } from '@gantry/model/descriptor'
import { sha256Of } from '@gantry/model/digest'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createVerifyImage } from './verify-image.ts'

const NAME = 'registry.example.com/team/app:1'
const TARGET = { mediaType: MEDIA.ociManifest, digest: sha256Of('manifest'), size: 8n }
const never = new AbortController().signal
let root: string
let dir: string
let logged: string[]

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'gantry-verify-'))
  dir = join(root, 'bin')
  logged = []
  await mkdir(dir)
})
afterEach(() => rm(root, { recursive: true, force: true }))

async function addVerifier(name: string, script: string): Promise<void> {
  await writeFile(join(dir, name), `#!/bin/sh\n${script}\n`)
  await chmod(join(dir, name), 0o755)
}

function verify({ maxVerifiers = 10, timeoutMs = 5000, folder = dir, signal = never } = {}): Promise<void> {
  const say = (_: object, message: string) => void logged.push(message)
  const env = { PATH: process.env.PATH, OUT: join(root, 'out') }
  const log = { error: say, debug: say }
  return createVerifyImage({ dir: folder, maxVerifiers, timeoutMs, env, log })(NAME, TARGET, signal)
}

const said = () => readFile(join(root, 'out'), 'utf8')

async function isGone(pidFile: string): Promise<boolean> {
  const pid = (await readFile(join(root, pidFile), 'utf8')).trim()
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  return stat === '' || stat.includes(') Z ')
}

test('without the folder, or with an empty one, every image is fine', async () => {
  await verify({ folder: join(root, 'absent') })
  await verify()
})

test('a verifier gets reference, digest and descriptor, and nothing else of ours', async () => {
  process.env.GANTRY_TEST_SECRET = 'secret'
  await using _ = await open(join(root, 'secret'), 'w')
  await addVerifier('a', '{ echo "$@"; cat; { env; ls -l /proc/self/fd; } | grep -ci secret; pwd; } > $OUT')

  await verify()

  const [args, descriptor, secrets, cwd] = (await said()).split('\n')
  expect(args).toBe(`-name ${NAME} -digest ${TARGET.digest} -stdin-media-type application/vnd.oci.descriptor.v1+json`)
  expect(JSON.parse(descriptor ?? '')).toEqual({ ...TARGET, size: 8 })
  expect([secrets, cwd]).toEqual(['0', '/'])
  delete process.env.GANTRY_TEST_SECRET
})

test('one that objects is enough, and its reason is told', async () => {
  await addVerifier('a', 'echo fine')
  await addVerifier('b', 'echo "  not signed"; echo "by anybody  "; exit 3')
  await addVerifier('c', 'touch $OUT')

  await expect(verify()).rejects.toMatchObject({
    code: 'unknown',
    message: `Cannot use ${NAME} (${TARGET.digest}): the image verifier "b" rejects it (exit code 3): not signed by anybody`,
  })
  await expect(said()).rejects.toThrow('ENOENT')
})

test.each([
  ['has no reason', 'exit 1', /rejects it \(exit code 1\): it gives no reason$/],
  ['is killed', 'kill -9 $$', /was killed by SIGKILL$/],
  ['prints without end', 'head -c 5000000 /dev/zero | tr "\\0" x; exit 1', /exit code 1\): x{1024}…$/],
  ['prints what a terminal obeys', 'printf "a\\033[2Jb\\r\\nc"; exit 1', /: a \[2Jb c$/],
  ['does not read', 'exec <&-; exit 4', /exit code 4/],
])('a verifier that %s', async (_, script, message) => {
  await addVerifier('a', script)

  await expect(verify()).rejects.toMatchObject({ code: 'unknown', message: expect.stringMatching(message) })
})

test('a file that cannot be run objects, and so does a folder that cannot be read', async () => {
  await writeFile(join(dir, 'README'), 'no program')
  await expect(verify()).rejects.toMatchObject({
    code: 'unknown',
    message: expect.stringMatching(/"README" cannot be run/),
  })

  await expect(verify({ folder: join(dir, 'README') })).rejects.toMatchObject({
    code: 'unknown',
    message: expect.stringMatching(/cannot be read/),
  })
})

test('a verifier that hangs is killed with its children and counts as an objection', async () => {
  await addVerifier('a', `sleep 60 & echo $! > ${join(root, 'child')}; echo $$ > ${join(root, 'self')}; wait`)

  await expect(verify({ timeoutMs: 300 })).rejects.toMatchObject({
    code: 'unknown',
    message: expect.stringMatching(/gave no answer within 0.3 s$/),
  })
  await expect.poll(() => Promise.all(['child', 'self'].map(isGone))).toEqual([true, true])
})

test('children that a verifier leaves behind with its pipes hold nobody up', async () => {
  await addVerifier('a', `sleep 60 & echo $! > ${join(root, 'child')}; exit 0`)

  const start = performance.now()
  await verify()

  expect(performance.now() - start).toBeLessThan(3000)
  await expect.poll(() => isGone('child')).toBe(true)
})

test('a call that is cancelled stops the verifier', async () => {
  const hangup = new AbortController()
  await addVerifier('a', `echo $$ > ${join(root, 'self')}; sleep 60`)
  const asked = verify({ signal: hangup.signal })
  await expect.poll(() => readFile(join(root, 'self'), 'utf8').catch(() => '')).not.toBe('')

  hangup.abort(new Error('hung up'))

  await expect(asked).rejects.toThrow('hung up')
  await expect.poll(() => isGone('self')).toBe(true)
})

test('only the first ones by name are asked, and that is said; -1 asks all, 0 none', async () => {
  await addVerifier('b', 'exit 1')
  await addVerifier('a', 'exit 0')

  await verify({ maxVerifiers: 1 })
  await verify({ maxVerifiers: 0 })
  expect(logged).toHaveLength(2)
  await expect(verify({ maxVerifiers: -1 })).rejects.toThrow('exit code 1')
})

test('what a verifier says on its error output is for the log', async () => {
  await addVerifier('a', 'echo one >&2; echo two >&2')

  await verify()

  expect(logged).toEqual(['one', 'two'])
})
