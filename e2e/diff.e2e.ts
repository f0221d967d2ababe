import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { Diff } from '@gantry/api/containerd/services/diff/v1/diff_pb'
import { Snapshots } from '@gantry/api/containerd/services/snapshots/v1/snapshots_pb'
import { clientOf, connect } from '@gantry/rpc/client'
import { expect, test } from 'vitest'
import { run } from './harness/command.ts'
import { LAYER, makeImage, sha256 } from './harness/image.ts'
import { LIST, within } from './harness/snapshot.ts'
import { onEveryTarget, type Target } from './harness/target.ts'
import { rows } from './harness/text.ts'

const [BASE = ''] = makeImage().diffIds
const PLAIN = 'application/vnd.oci.image.layer.v1.tar'

/** Times are whole seconds: containerd's layers have no others. */
const CHANGES = `
  rm etc/motd bin/vi
  echo changed > etc/passwd
  rm -r home/demo && mkdir home/demo && echo new > home/demo/new
  rm -r var && echo file > var
  rm bin/cat && ln -s ../etc/group bin/cat
  mkdir -p "$(printf 'd%.0s' $(seq 150))/$(printf 'e%.0s' $(seq 150))"
  echo x > "$(printf 'd%.0s' $(seq 150))/ünï code"
  mkfifo -m 620 run/fifo
  mknod -m 640 dev/disk b 8 300
  echo su > usr/bin/su && chown 70000:12 usr/bin/su && chmod 6755 usr/bin/su
  setcap cap_net_raw+ep usr/bin/su
  ln usr/bin/su usr/bin/su-too
  truncate -s 1M tmp/hole
  chmod 700 root
  find . -newer ../before -exec touch -h -d @1500000000 {} +
`
onEveryTarget((target) => {
  test('what ctr says that has changed makes the same tree of the same parent', async () => {
    const top = await pulled(target())
    await target().ctr(['snapshots', 'prepare', 'box', top])
    const changed = await within(target(), 'box', `touch ../before; sleep 0.01\n${CHANGES}\n${LIST}`)
    const blob = join(target().dir, 'blob')

    const packed = await ctrInto(target(), blob, ['snapshots', 'diff', '--keep', 'box'])

    expect(packed).toMatchObject({ code: 0, stderr: '' })
    const bytes = readFileSync(blob)
    expect(bytes.readUInt16BE(0)).toBe(0x1f8b)
    expect(await applied(target(), top, { mediaType: LAYER, digest: sha256(bytes) })).toBe(changed)
    const info = await target().ctr(['content', 'ls'])
    expect(info.stdout).toMatch(new RegExp(`${sha256(bytes)}.*containerd.io/uncompressed=${sha256(gunzipSync(bytes))}`))
    await tidy(target(), [sha256(bytes)])
  })

  test('two snapshots whatever are compared, and one in which nothing was done has no difference', async () => {
    const top = await pulled(target())
    await target().ctr(['snapshots', 'prepare', 'box', top])
    const none = join(target().dir, 'none')
    const between = join(target().dir, 'between')

    const same = await ctrInto(target(), none, ['snapshots', 'diff', '--media-type', PLAIN, 'box'])
    const other = await ctrInto(target(), between, ['snapshots', 'diff', '--media-type', PLAIN, top, BASE])

    expect([same, other]).toEqual([expect.objectContaining({ code: 0 }), expect.objectContaining({ code: 0 })])
    expect(readFileSync(none).every((byte) => byte === 0)).toBe(true)
    const names = (await run(['tar', '-tf', between])).stdout
      .split('\n')
      .filter((name) => name !== '' && !name.endsWith('/'))
    expect(names.sort()).toEqual(['etc/.wh.motd', 'etc/removed', 'home/demo/.wh.own'])
    await tidy(target(), [])
  })

  test('a media type nobody packs is refused', async () => {
    const top = await pulled(target())

    const refused = await target().ctr(['snapshots', 'diff', '--media-type', 'text/plain', top])

    expect(refused.code).toBe(1)
    expect(refused.stderr).toContain('not implemented')
  })
})

/** The top of the chain of the image all suites share. */
async function pulled(target: Target): Promise<string> {
  await target.pull()
  const listed = rows((await target.ctr(['snapshots', 'ls'])).stdout)
  return listed.find(([, parent]) => parent === BASE)?.[0] ?? ''
}

async function ctrInto(target: Target, path: string, args: readonly string[]) {
  const { address, namespace } = target
  const words = ['ctr', '-a', address, '-n', namespace, ...args].map((word) => `'${word}'`).join(' ')
  return await run(['sh', '-c', `${words} > '${path}'`])
}

/** The tree that a layer makes of a parent. */
async function applied(target: Target, parent: string, diff: { mediaType: string; digest: string }): Promise<string> {
  await using channel = connect(target.address)
  const call = { namespace: target.namespace, signal: AbortSignal.timeout(30_000) }
  const prepared = { snapshotter: 'overlayfs', key: 'after', parent, labels: { 'containerd.io/gc.root': 'now' } }
  const { mounts } = await clientOf(Snapshots, channel).prepare(prepared, call)
  await clientOf(Diff, channel).apply({ diff, mounts }, call)
  return await within(target, 'after', LIST)
}

async function tidy(target: Target, digests: readonly string[]): Promise<void> {
  for (const digest of digests) await target.ctr(['content', 'rm', digest])
  for (const key of ['box', 'after']) await target.ctr(['snapshots', 'rm', key])
}
