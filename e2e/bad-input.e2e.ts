/** Whatever is wrong gets an answer that says what, and nothing stays behind. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { run } from './harness/command.ts'
import { freePort } from './harness/daemon.ts'
import { GANTRY, gantryEnv } from './harness/gantry.ts'
import { type Image, imageOf, makeImage, sha256 } from './harness/image.ts'
import { traces } from './harness/leaks.ts'
import { openRegistry } from './harness/registry.ts'
import { tar } from './harness/tar.ts'
import { onEveryTarget, onGantry } from './harness/target.ts'
import { complaint, rows } from './harness/text.ts'

onEveryTarget((target) => {
  let image = ''
  beforeAll(async () => {
    image = await target().pull()
  })
  const refused = async (...args: string[]) => {
    const { code, stdout, stderr } = await target().ctr(args)
    return { code, stdout, complaint: complaint(stderr) }
  }

  test('a malformed namespace', async () => {
    expect(await refused('-n', 'bad ns', 'images', 'ls')).toEqual({
      code: 1,
      stdout: '',
      complaint: expect.stringMatching(/^failed to list images: .*namespace.*"bad ns".*: invalid argument$/),
    })
  })

  test('no namespace', async () => {
    expect(await refused('-n', '', 'images', 'ls')).toEqual({
      code: 1,
      stdout: '',
      complaint: expect.stringMatching(/^failed to list images: namespace is required.*: failed precondition$/),
    })
  })

  test.each(['bad/id', '-x', 'a..b', 'x'.repeat(77)])('the container id %s', async (id) => {
    const { code, complaint } = await refused('run', '--rm', '--', image, id, 'true')

    expect(code).toBe(1)
    expect(complaint).toMatch(/: invalid argument$/)
    // ctr prepared a snapshot before it asked for the container; taking that away is the collector's work, when there is one
    await target().ctr(['snapshots', 'rm', '--', id])
  })

  test('an image nobody pulled', async () => {
    expect(await refused('run', '--rm', 'nope:1', 'c1', 'true')).toEqual({
      code: 1,
      stdout: '',
      complaint: expect.stringMatching(/image "nope:1": not found$/),
    })
  })

  test('a runtime that is not installed', async () => {
    const { code, complaint } = await refused(
      'run',
      '--rm',
      '--runtime',
      'io.containerd.nosuch.v1',
      image,
      'c1',
      'true',
    )

    expect([code, complaint]).toEqual([1, expect.stringMatching(/io\.containerd\.nosuch\.v1/)])
    expect((await target().ctr(['tasks', 'ls', '-q'])).stdout).toBe('')
    await target().sweep()
  })

  test('a filter that cannot be read', async () => {
    expect((await refused('containers', 'ls', 'id=~x')).code).toBe(1)
    expect((await refused('images', 'ls', 'name==')).code).toBe(1)
  })

  test('a label that is too long', async () => {
    expect(await refused('ns', 'create', `${target().namespace}long`, `k=${'v'.repeat(4096)}`)).toMatchObject({
      code: 1,
      complaint: expect.stringMatching(/invalid argument$/),
    })
  })

  test('a layer that climbs out of its folder writes nothing outside', async () => {
    const outside = `gantry-e2e-escaped-${process.pid}`
    const climbing = imageOf([
      tar([
        { path: 'inside', data: 'ok' },
        { path: `../../../../../../tmp/${outside}`, data: 'out' },
      ]),
    ])
    const linking = imageOf([
      tar([
        { path: 'link', link: '/tmp' },
        { path: `link/${outside}`, data: 'out' },
      ]),
    ])

    for (const [name, evil] of Object.entries({ climbing, linking })) {
      const reference = await push(name, evil)
      await target().ctr(['images', 'pull', '--plain-http', reference])
      expect((await run(['ls', `/tmp/${outside}`])).code).not.toBe(0)
      await target().ctr(['images', 'rm', reference])
    }
  })

  test('a layer whose bytes are not what the image promises', async () => {
    const promised = sha256(Buffer.from('something else'))
    const reference = await push('lying', imageOf([tar([{ path: 'x' }])], {}, [promised]))

    const { code, complaint } = await refused('images', 'pull', '--plain-http', reference)

    expect(code).toBe(1)
    expect(complaint).toMatch(/wrong diff id|diff ID/)
    expect(
      rows((await target().ctr(['snapshots', 'ls'])).stdout).filter(([key]) => key?.startsWith('extract-')),
    ).toEqual([])
    await target().ctr(['images', 'rm', reference])
  })
})

onGantry((target) => {
  const cli = (...args: string[]) => run([GANTRY, ...args], { env: gantryEnv(target().address, target().namespace) })
  const nothingStays = async (reference: string) => {
    expect((await target().ctr(['images', 'ls', '-q'])).stdout).not.toContain(reference)
    expect((await target().ctr(['content', 'active'])).stdout.trimEnd().split('\n').slice(1)).toEqual([])
    expect(
      rows((await target().ctr(['snapshots', 'ls'])).stdout).filter(([key]) => key?.startsWith('extract-')),
    ).toEqual([])
  }

  test('a registry that is down', async () => {
    const reference = `127.0.0.1:${await freePort()}/busybox:1`
    const { code, stderr } = await cli('pull', '--plain-http', reference)

    expect(code).not.toBe(0)
    expect(stderr).toMatch(/refused|reach/i)
    await nothingStays(reference)
  })

  test('an image the registry does not have', async () => {
    const reference = `${inject('registry')}/nope:1`
    const { code, stderr } = await cli('pull', '--plain-http', reference)

    expect(code).not.toBe(0)
    expect(stderr).toMatch(/not found/i)
    await nothingStays(reference)
  })

  describe('a registry that answers nonsense', () => {
    let server: Server
    let answer: (path: string) => { status?: number; type?: string; body: string | Uint8Array } = () => ({ body: '' })
    let host = ''
    beforeAll(async () => {
      server = createServer((request, response) => {
        const { status = 200, type = 'application/vnd.oci.image.manifest.v1+json', body } = answer(request.url ?? '')
        response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) })
        response.end(request.method === 'HEAD' ? undefined : body)
      })
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
      const address = server.address()
      host = `127.0.0.1:${typeof address === 'object' ? address?.port : 0}`
    })
    afterAll(() => new Promise((resolve) => server.close(resolve)))

    const honest = makeImage()
    const manifest = Buffer.from(honest.manifest.bytes).toString()
    const nonsense: Record<string, typeof answer> = {
      'HTML instead of a manifest': () => ({ body: '<html>Please log in</html>' }),
      'no JSON at all': () => ({ body: '\0\0\0' }),
      'a manifest that is an index too': () => ({ body: JSON.stringify({ ...JSON.parse(manifest), manifests: [] }) }),
      'an error of its own': () => ({ status: 500, type: 'text/plain', body: 'on fire' }),
      'a blob with other bytes': (path) =>
        path.includes('/manifests/')
          ? { body: manifest }
          : {
              type: 'application/octet-stream',
              body: Buffer.alloc(
                honest.layers.find(({ digest }) => path.endsWith(digest))?.size ?? honest.config.size,
                1,
              ),
            },
      'a blob that is too short': (path) =>
        path.includes('/manifests/') ? { body: manifest } : { type: 'application/octet-stream', body: 'short' },
    }
    test.each(Object.keys(nonsense))('%s', async (what) => {
      answer = nonsense[what] ?? answer
      const reference = `${host}/busybox:1`

      const { code, stderr } = await cli('pull', '--plain-http', reference)

      expect(code).toBeGreaterThan(0)
      expect(stderr).toContain('busybox') // it says what it could not pull
      expect(stderr).not.toMatch(/Internal error|at \S+ \(|node:internal/)
      await nothingStays(reference)
    })
  })
})

async function push(name: string, image: Image): Promise<string> {
  return openRegistry(inject('registry')).push(name, '1', image)
}

describe('gantry up refuses', () => {
  const up = async (dir: string, ...options: string[]) => {
    const outcome = await run([GANTRY, 'up', '--root', join(dir, 'root'), '--state', join(dir, 'state'), ...options], {
      timeoutMs: 20_000,
    })
    expect(traces({ dir, namespaces: [] }).filter((line) => !line.startsWith('fifo'))).toEqual([])
    return outcome
  }
  const inFolder = async (body: (dir: string) => Promise<void>, prefix = 'ge-') => {
    const dir = mkdtempSync(join(tmpdir(), prefix))
    try {
      await body(dir)
    } finally {
      rmSync(dir, { recursive: true, force: true })
    }
  }

  test('a configuration file with an unknown key, and names the nearest', async () => {
    await inFolder(async (dir) => {
      writeFileSync(join(dir, 'gantry.toml'), '[snapshots]\ndrivr = "overlayfs"\n')

      const { code, stderr, stdout } = await up(dir, '--config', join(dir, 'gantry.toml'))
      expect(code).toBeGreaterThan(0)
      expect(stderr + stdout).toMatch(/drivr/)
    })
  })

  test('a configuration file that is not there', async () => {
    await inFolder(async (dir) => {
      const { code, stderr, stdout } = await up(dir, '--config', join(dir, 'none.toml'))

      expect(code).toBeGreaterThan(0)
      expect(stderr + stdout).toContain('none.toml')
    })
  })

  test('a state folder whose socket would have a path over 107 bytes', async () => {
    await inFolder(async (dir) => {
      const { code, stderr, stdout } = await run(
        [GANTRY, 'up', '--root', join(dir, 'root'), '--state', join(dir, 's'.repeat(110))],
        { timeoutMs: 20_000 },
      )

      expect(code).toBeGreaterThan(0)
      expect(stderr + stdout).toMatch(/107/)
    })
  })

  test('a root that cannot be written', async () => {
    await inFolder(async (dir) => {
      await run(['mkdir', join(dir, 'root')])
      await run(['mount', '-t', 'tmpfs', '-o', 'ro', 'none', join(dir, 'root')])
      try {
        const { code, stderr, stdout } = await run(
          [GANTRY, 'up', '--root', join(dir, 'root'), '--state', join(dir, 'state')],
          { timeoutMs: 20_000 },
        )

        expect(code).toBeGreaterThan(0)
        expect(stderr + stdout).toMatch(/read-only|EROFS/i)
      } finally {
        await run(['umount', join(dir, 'root')])
      }
    })
  })
})
