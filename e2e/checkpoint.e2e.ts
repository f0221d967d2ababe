/**
 * Checkpoints by unmodified clients. criu works on few kernels, so a program of that name says yes to everything here, and a runtime in
 * front of runc makes up what criu would have written: what is proved is all that comes after that.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { onGantry } from './harness/target.ts'
import { rows } from './harness/text.ts'

const folder = mkdtempSync(join(tmpdir(), 'criu-'))
const RUNC = join(folder, 'runc')
const SCRIPT = `#!/bin/sh
case " $* " in *" checkpoint "*)
  while [ $# -gt 0 ]; do [ "$1" = --image-path ] && to=$2; shift; done
  head -c 300000 /dev/zero >"$to/pages-1.img"; exit 0
esac
exec /usr/sbin/runc "$@"
`
writeFileSync(join(folder, 'criu'), '#!/bin/sh\n', { mode: 0o755 })
writeFileSync(RUNC, SCRIPT, { mode: 0o755 })
process.env.PATH = `${folder}:${process.env.PATH}` // of the node that this file starts

onGantry((target) => {
  let image = ''
  const ctr = (...args: string[]) => target().ctr(args)
  beforeAll(async () => {
    image = await target().pull()
  })
  afterEach(() => target().sweep())
  afterAll(() => rmSync(folder, { recursive: true }))

  test('a checkpoint of a running task becomes an image: what criu wrote, the specification, the image, the changes', async () => {
    await ctr('run', '-d', '--runc-binary', RUNC, image, 'ck1', 'sleep', '1000')

    const { code, stdout: name, stderr } = await ctr('tasks', 'checkpoint', 'ck1')

    expect([code, name, stderr]).toEqual([0, expect.stringMatching(/^containerd\.io\/checkpoint\/ck1:.*\n$/), ''])
    expect(rows((await ctr('tasks', 'ls')).stdout)[0]?.[2]).toBe('RUNNING')
    const digest = rows((await ctr('images', 'ls')).stdout).find(([each]) => each === name.trim())?.[2] ?? ''
    const index = JSON.parse((await ctr('content', 'get', digest)).stdout)
    expect(index.manifests.map(({ mediaType }: { mediaType: string }) => mediaType)).toEqual([
      'application/vnd.containerd.container.criu.checkpoint.criu.tar',
      'application/vnd.containerd.container.checkpoint.config.v1+proto',
      'application/vnd.oci.image.manifest.v1+json',
      'application/vnd.oci.image.layer.v1.tar+gzip',
    ])
    const { stdout: archive } = await ctr('content', 'get', index.manifests[0].digest)
    expect(execFileSync('tar', ['--list', '--verbose'], { input: archive, encoding: 'utf8' })).toMatch(
      / 300000 .* pages-1\.img\n$/,
    )
    expect((await ctr('content', 'get', index.manifests[1].digest)).stdout).toContain('"sleep","1000"')
    await ctr('images', 'rm', name.trim())
  })

  test('a runtime that is built without criu is named, and the task runs on', async () => {
    await ctr('run', '-d', '--runc-binary', '/usr/bin/crun', image, 'ck2', 'sleep', '1000')

    const { code, stderr } = await ctr('tasks', 'checkpoint', 'ck2')

    expect([code, stderr]).toEqual([
      1,
      expect.stringContaining('/usr/bin/crun is built without criu; run the container by runc'),
    ])
    expect(rows((await ctr('tasks', 'ls')).stdout)[0]?.[2]).toBe('RUNNING')
  })
})
