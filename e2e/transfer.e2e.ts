/** Images in and out by every way there is, with the tools of others at the other end. */
import { spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { run } from './harness/command.ts'
import { startContainerd } from './harness/containerd.ts'
import { startDocker } from './harness/docker.ts'
import { GANTRY, gantryEnv } from './harness/gantry.ts'
import { imageOf, makeImage, sha256 } from './harness/image.ts'
import { commandOf } from './harness/leaks.ts'
import { peakOf } from './harness/memory.ts'
import { openRegistry } from './harness/registry.ts'
import { type Entry, tar } from './harness/tar.ts'
import { onEveryTarget, onGantry } from './harness/target.ts'
import { rows } from './harness/text.ts'

const fixture = makeImage()
const DIGEST = fixture.manifest.digest
const SKOPEO = ['skopeo', '--insecure-policy', 'copy', '--src-tls-verify=false', '--dest-tls-verify=false']
const LARGE = 320 * 1024 ** 2 // bytes of an archive; more than any process may need for it
const MOST_MIB = 200 // of memory that it needs for that, at most
let dir = ''

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'gantry-transfer-'))
})
afterAll(() => rmSync(dir, { recursive: true, force: true }))

const file = (name: string) => join(dir, name)
const sumOf = (name: string) =>
  createHash('sha256')
    .update(readFileSync(file(name)))
    .digest('hex')
async function ok(argv: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await run(argv, { timeoutMs: 60_000 })
  expect({ code, stderr: code === 0 ? '' : stderr }).toEqual({ code: 0, stderr: '' })
  return stdout
}

onGantry((target) => {
  const image = inject('image')
  const registry = openRegistry(image.slice(0, image.indexOf('/')))
  const env = () => gantryEnv(target().address, target().namespace)
  const gantry = (...args: string[]) => run([GANTRY, ...args], { env: env(), timeoutMs: 120_000 })
  const digestOf = async (name: string) => {
    const images: { name: string; digest: string }[] = JSON.parse((await gantry('images', '--json')).stdout)
    return images.find((one) => one.name === name)?.digest
  }
  const loaded = (name: string) => ({ code: 0, stdout: `Loaded image: ${name}\n`, stderr: '' })
  const says = async (name: string) => (await gantry('run', '--rm', name, 'cat', '/etc/motd')).stdout

  beforeAll(async () => {
    await target().pull()
  })

  test('skopeo reads what was saved, as OCI layout and as Docker archive', async () => {
    expect(await gantry('save', '-o', file('saved.tar'), image)).toEqual({ code: 0, stdout: '', stderr: '' })

    await ok([...SKOPEO, `oci-archive:${file('saved.tar')}`, `dir:${file('oci')}`])
    await ok([...SKOPEO, `docker-archive:${file('saved.tar')}`, `dir:${file('docker')}`])
    expect(sha256(readFileSync(file('oci/manifest.json')))).toBe(DIGEST)
    for (const { digest } of fixture.layers) expect(readdirSync(file('oci'))).toContain(digest.slice(7))
    expect(readdirSync(file('docker'))).toContain(fixture.config.digest.slice(7))
  })

  test('the same image is the same archive', async () => {
    for (const name of ['one.tar', 'two.tar'])
      expect(await gantry('export', file(name), image)).toEqual({ code: 0, stdout: '', stderr: '' })

    expect(sumOf('one.tar')).toBe(sumOf('two.tar'))
  })

  test('what skopeo copies from a registry comes in, as OCI layout', async () => {
    await ok([...SKOPEO, `docker://${image}`, `oci-archive:${file('skopeo-oci.tar')}:x.io/skopeo/oci:1`])

    expect(await gantry('load', '-i', file('skopeo-oci.tar'))).toEqual(loaded('x.io/skopeo/oci:1'))
    expect(await digestOf('x.io/skopeo/oci:1')).toBe(DIGEST)
    expect(await says('x.io/skopeo/oci:1')).toBe('from the second layer\n')
  })

  test.each([
    ['plain', (bytes: Buffer) => bytes],
    ['gzip', (bytes: Buffer) => gzipSync(bytes)],
    ['zstd', (bytes: Buffer) => zstdCompressSync(bytes)],
  ])('what skopeo copies from a registry comes in, as Docker archive, %s', async (codec, encode) => {
    const name = `x.io/skopeo/docker:${codec}`
    const archive = file(`skopeo-${codec}.tar`)
    await ok([...SKOPEO, `docker://${image}`, `docker-archive:${archive}:${name}`])

    const { code, stdout } = await run([GANTRY, 'load', '-q'], { env: env(), stdin: encode(readFileSync(archive)) })

    expect({ code, stdout }).toEqual({ code: 0, stdout: `${name}\n` })
    expect(await says(name)).toBe('from the second layer\n')
  })

  test('layouts of umoci come in, and umoci unpacks what goes out', async () => {
    mkdirSync(file('umoci'))
    await ok([...SKOPEO, `docker://${image}`, `oci:${file('umoci/in')}:v1`])
    await ok(['umoci', 'config', '--image', `${file('umoci/in')}:v1`, '--config.cmd', 'motd', '--tag', 'v2'])
    await ok(['tar', '-C', file('umoci/in'), '-cf', file('umoci.tar'), '.'])

    const { stdout } = await gantry('import', '-q', '--base-name', 'x.io/umoci', file('umoci.tar'))
    expect(stdout.trim().split('\n').sort()).toEqual(['x.io/umoci:v1', 'x.io/umoci:v2'])
    expect(await digestOf('x.io/umoci:v1')).toBe(DIGEST)

    mkdirSync(file('umoci/out'))
    await gantry('save', '-o', file('umoci-out.tar'), 'x.io/umoci:v2')
    await ok(['tar', '-C', file('umoci/out'), '-xf', file('umoci-out.tar')])
    await ok(['umoci', 'unpack', '--image', `${file('umoci/out')}:v2`, file('umoci/bundle')])
    expect(readFileSync(file('umoci/bundle/rootfs/etc/motd'), 'utf8')).toBe('from the second layer\n')
  })

  test('what is pushed has the same digest for skopeo and for containerd, and goes on to other places', async () => {
    const pushed = `${registry.host}/pushed/app:1`
    await gantry('tag', image, pushed)

    expect(await gantry('push', '-q', '--plain-http', pushed)).toEqual({ code: 0, stdout: `${pushed}\n`, stderr: '' })

    const inspected = JSON.parse(await ok(['skopeo', 'inspect', '--tls-verify=false', `docker://${pushed}`]))
    expect(inspected.Digest).toBe(DIGEST)
    const further = `${registry.host}/further/app:1`
    await ok([...SKOPEO, `docker://${pushed}`, `docker://${further}`])
    expect((await gantry('pull', '--plain-http', further)).code).toBe(0)
    expect(await digestOf(further)).toBe(DIGEST)

    mkdirSync(file('c/root'), { recursive: true })
    mkdirSync(file('c/state'))
    await using containerd = await startContainerd(file('c/root'), file('c/state'))
    const ctr = ['ctr', '-a', containerd.address, 'images']
    await ok([...ctr, 'pull', '--plain-http', '--snapshotter', 'native', pushed])
    expect(rows(await ok([...ctr, 'ls']))[0]?.slice(0, 3)).toEqual([pushed, fixture.manifest.mediaType, DIGEST])
  }, 60_000)

  test('docker pulls what is pushed, with the same digests; what it saves comes in, and it loads what goes out', async () => {
    const pushed = `${registry.host}/for-docker/app:1`
    await gantry('push', '-q', '--plain-http', image, pushed)
    await using dockerd = await startDocker(target())
    const docker = async (...args: string[]) => {
      const { code, stdout, stderr } = await dockerd.docker(args)
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
      return stdout.trim()
    }
    const known = (name: string) => docker('image', 'inspect', '-f', '{{.Id}} {{json .RepoDigests}}', name)

    await docker('pull', '-q', pushed)
    expect(await known(pushed)).toBe(`${fixture.config.digest} ["${registry.host}/for-docker/app@${DIGEST}"]`)

    await docker('tag', pushed, 'x.io/docker/saved:1')
    await docker('save', '-o', file('docker.tar'), 'x.io/docker/saved:1')
    expect(await gantry('load', '-i', file('docker.tar'))).toEqual(loaded('x.io/docker/saved:1'))
    expect(await says('x.io/docker/saved:1')).toBe('from the second layer\n')

    await gantry('tag', 'x.io/docker/saved:1', 'x.io/docker/back:1')
    await gantry('save', '-o', file('back.tar'), 'x.io/docker/back:1', image)
    await docker('rmi', '-f', fixture.config.digest)
    await docker('load', '-q', '-i', file('back.tar'))
    for (const name of ['x.io/docker/back:1', image]) expect(await known(name)).toContain(fixture.config.digest)
  }, 120_000)

  test('pushing again sends nothing again', async () => {
    const pushed = `${registry.host}/twice/app:1`
    await gantry('push', '-q', '--plain-http', image, pushed)

    const { stdout } = await gantry('push', '--plain-http', image, pushed)

    expect(stdout.match(/already exists/g)).toHaveLength(4)
  })

  test('an image for several platforms is pushed whole, or one platform of it', async () => {
    const other = imageOf([tar([{ path: 'other', data: 'other' }])])
    const host = `linux/${process.arch === 'x64' ? 'amd64' : process.arch}`
    const multi = await registry.pushIndex('multi', '1', { [host]: fixture, 'linux/s390x': other })
    expect((await gantry('pull', '--plain-http', '--all-platforms', multi)).code).toBe(0)
    const raw = async (reference: string) =>
      sha256(Buffer.from(await ok(['skopeo', 'inspect', '--raw', '--tls-verify=false', `docker://${reference}`])))

    await gantry('push', '-q', '--plain-http', multi, `${registry.host}/multi-copy:all`)
    expect(await raw(`${registry.host}/multi-copy:all`)).toBe(await digestOf(multi))
    await gantry('push', '-q', '--plain-http', '--platform', 'linux/s390x', multi, `${registry.host}/multi-copy:one`)
    expect(await raw(`${registry.host}/multi-copy:one`)).toBe(other.manifest.digest)
    expect((await gantry('images', '-q')).stdout).not.toContain('#push')

    expect((await gantry('save', '--all-platforms', '-o', file('multi.tar'), multi)).code).toBe(0)
    await ok([...SKOPEO, '--all', `oci-archive:${file('multi.tar')}`, `docker://${registry.host}/multi-copy:two`])
    expect(await raw(`${registry.host}/multi-copy:two`)).toBe(await digestOf(multi))
  })

  test('a push says what is wrong', async () => {
    expect(await gantry('push', '--plain-http', 'x.io/nobody/knows:1')).toMatchObject({ code: 1, stderr: /not found/ })
    const { code, stderr } = await gantry('push', '--plain-http', image, '127.0.0.1:1/x:1')

    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining('127.0.0.1:1') })
  })

  test('what is no archive leaves no image and no ingest', async () => {
    const before = (await gantry('images', '-q')).stdout
    await gantry('save', '-o', file('whole.tar'), image)
    const whole = readFileSync(file('whole.tar'))

    for (const bytes of [
      randomBytes(100_000),
      whole.subarray(0, whole.length / 2),
      gzipSync(whole).subarray(0, 50_000),
    ])
      expect(await run([GANTRY, 'load'], { env: env(), stdin: bytes })).toMatchObject({ code: 1, stdout: '' })
    expect((await gantry('images', '-q')).stdout).toBe(before)
    expect((await target().ctr(['content', 'active'])).stdout.trim().split('\n')).toHaveLength(1)
  })

  test('a large archive needs no memory of that size', async () => {
    const names = Array.from({ length: 4 }, (_, at) => `${at}.tar`)
    const shared = Buffer.concat([randomBytes(1024 * 1024), Buffer.alloc(LARGE / names.length - 1024 * 1024)])
    const layer = (path: string): Entry => {
      shared.write(path)
      return { path, data: shared }
    }
    const diffIds = names.map((name) => sha256(Buffer.from(layer(name).data ?? '')))
    const config = JSON.stringify({ os: 'linux', architecture: 'amd64', rootfs: { type: 'layers', diff_ids: diffIds } })
    const manifest = [{ Config: 'c.json', RepoTags: ['x.io/big:1'], Layers: names }]
    const content = target()
      .pids()
      .find((pid) => /apps\/content\/(dist\/)?main/.test(commandOf(pid)))
    const before = peakOf(content ?? 0)

    const started = performance.now()
    const child = spawn(GANTRY, ['import', '--no-unpack', '-q', '-'], {
      env: { ...process.env, ...env() },
      stdio: ['pipe', 'ignore', 'inherit'],
    })
    const ended = new Promise((resolve) => child.once('close', resolve))
    await pipeline(async function* () {
      yield tar([{ path: 'c.json', data: config }]).subarray(0, -1024)
      for (const name of names) yield tar([layer(name)]).subarray(0, -1024)
      yield tar([{ path: 'manifest.json', data: JSON.stringify(manifest) }])
    }, child.stdin)
    expect(await ended).toBe(0)
    const seconds = (performance.now() - started) / 1000
    const peak = peakOf(content ?? 0)

    console.log(
      `imported it in ${seconds.toFixed(1)} s; content: peak ${peak.toFixed(0)} MiB, before ${before.toFixed(0)}`,
    )
    expect(peak - before).toBeLessThan(MOST_MIB)
    const saved = spawn(GANTRY, ['save', 'x.io/big:1'], {
      env: { ...process.env, ...env() },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let bytes = 0
    for await (const chunk of saved.stdout) bytes += chunk.length
    expect(bytes).toBeGreaterThan(LARGE)
    console.log(`saved it again; content: peak ${peakOf(content ?? 0).toFixed(0)} MiB`)
    expect(peakOf(content ?? 0) - before).toBeLessThan(MOST_MIB)
  }, 180_000)
})

/** What one target made, for the next one to make the same. */
const seen = new Map<string, string>()
function expectSame(what: string, value: string) {
  expect(value).toBe(seen.get(what) ?? value)
  seen.set(what, value)
}

onEveryTarget((target) => {
  test('the client of containerd exports the same bytes, and imports the same digests', async () => {
    const image = await target().pull()
    const out = file(`${target().name}.tar`)

    expect((await target().ctr(['images', 'export', out, image])).code).toBe(0)
    expectSame('export', sumOf(`${target().name}.tar`))

    await ok([...SKOPEO, `docker://${image}`, `docker-archive:${file(`d-${target().name}.tar`)}:x.io/docker:1`])
    for (const archive of [out, file(`d-${target().name}.tar`)])
      expect(
        (await target().ctr(['images', 'import', '--index-name', `x.io/index:${archive.length}`, archive])).code,
      ).toBe(0)
    const listed = rows((await target().ctr(['images', 'ls'])).stdout)
    expectSame('images', JSON.stringify(listed.map((row) => row.slice(1, 3)).sort()))
    await target().ctr(['images', 'rm', '--sync', ...listed.map(([name = '']) => name)])
  })
})
