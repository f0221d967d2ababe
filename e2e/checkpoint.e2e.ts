/**
 * Checkpoints by unmodified clients. criu works on few kernels, so a program of that name says yes to everything here, and a runtime in
 * front of runc makes up what criu would have written, and starts a container anew where it should restore it: what is proved is all
 * that is around that.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { until } from './harness/daemon.ts'
import { onEveryTarget } from './harness/target.ts'
import { rows } from './harness/text.ts'

const folder = mkdtempSync(join(tmpdir(), 'criu-'))
const RUNC = join(folder, 'runc')
const SCRIPT = `#!/bin/sh
case " $* " in *" checkpoint "*)
  while [ $# -gt 0 ]; do [ "$1" = --image-path ] && to=$2; shift; done
  head -c 300000 /dev/zero >"$to/pages-1.img"; exit 0
esac
for word in "$@"; do
  shift
  case $word in
  restore) word=run ;;
  --image-path) after=images; continue ;;
  --work-path) after=work; continue ;;
  *) case $after in
    images) after=; [ "$(wc -c <"$word/pages-1.img")" = 300000 ] || exit 1; continue ;;
    work) after=; continue ;;
    esac ;;
  esac
  set -- "$@" "$word"
done
exec /usr/sbin/runc "$@"
`
const criu = (script: string) => writeFileSync(join(folder, 'criu'), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
criu('')
writeFileSync(RUNC, SCRIPT, { mode: 0o755 })
process.env.XDG_RUNTIME_DIR = folder // where containerd unpacks checkpoints, and leaves them
process.env.PATH = `${folder}:${process.env.PATH}` // of the node that this file starts

afterAll(() => rmSync(folder, { recursive: true }))

onEveryTarget((target, name) => {
  const ctr = (...args: string[]) => target().ctr(args)
  let image = ''
  const checkpoint = 'example.com/checkpoint:1'
  beforeAll(async () => {
    image = await target().pull()
  })
  afterEach(() => target().sweep())
  const statusOf = async (id: string) => rows((await ctr('tasks', 'ls')).stdout).find(([each]) => each === id)?.[2]

  test('a container goes on from a checkpoint of its task, with what it had written', async () => {
    const made = () => ctr('tasks', 'exec', '--exec-id', 'look', 'ck4', 'cat', '/made')
    await ctr(
      'run',
      '-d',
      '--runc-binary',
      RUNC,
      image,
      'ck3',
      'sh',
      '-c',
      '[ -e /made ] || echo before >/made; sleep 1000',
    )
    await until(
      'it has written',
      async () => (await ctr('tasks', 'exec', '--exec-id', 'look', 'ck3', 'cat', '/made')).stdout === 'before\n',
    )

    expect(await ctr('containers', 'checkpoint', '--task', '--rw', '--image', 'ck3', checkpoint)).toMatchObject({
      code: 0,
      stderr: '',
    })
    expect(await ctr('containers', 'restore', '--rw', '--live', 'ck4', checkpoint)).toMatchObject({
      code: 0,
      stderr: '',
    })

    expect([await statusOf('ck3'), await statusOf('ck4'), (await made()).stdout]).toEqual([
      'RUNNING',
      'RUNNING',
      'before\n',
    ])
    await ctr('tasks', 'kill', '-s', 'SIGKILL', 'ck4')
    await until('it stopped', async () => (await statusOf('ck4')) === 'STOPPED')
    expect((await ctr('tasks', 'rm', 'ck4')).stderr).toContain('exit code 137')
    await ctr('containers', 'rm', 'ck4')
    await ctr('images', 'rm', checkpoint)
  })

  if (name === 'containerd') return // it says less, and forgets the blobs of a first checkpoint for a second one

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

  test('where criu does not work, restoring is refused before anything is made, with what it says', async () => {
    await ctr('run', '-d', '--runc-binary', RUNC, image, 'ck5', 'sleep', '1000')
    await ctr('containers', 'checkpoint', '--task', '--rw', '--image', 'ck5', checkpoint)
    criu('echo "Error (criu/cr-check.c): no such syscall" >&2; exit 1')
    try {
      const { code, stderr } = await ctr('containers', 'restore', '--rw', '--live', 'ck6', checkpoint)

      expect([code, stderr]).toEqual([
        1,
        expect.stringContaining(
          'criu does not work on this host: Error (criu/cr-check.c): no such syscall: failed precondition',
        ),
      ])
      expect((await ctr('tasks', 'ls', '-q')).stdout).toBe('ck5\n')
    } finally {
      criu('')
      await ctr('images', 'rm', checkpoint)
    }
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
