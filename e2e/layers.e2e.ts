/** What comes out of layers is the same with containerd and with Gantry, to the last attribute. */
import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { createClient } from '@gantry/client/client'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { run } from './harness/command.ts'
import { imageOf } from './harness/image.ts'
import { hold } from './harness/lease.ts'
import { type Registry, startRegistry } from './harness/registry.ts'
import { LIST, within } from './harness/snapshot.ts'
import { type Entry, tar } from './harness/tar.ts'
import { onEveryTarget, type Target } from './harness/target.ts'
import { rows } from './harness/text.ts'

/** What GNU tar packs of this, in the format that can say everything, is the base. */
const BASE = `
  mkdir -p etc/deep/er bin full shared "$(printf 'd%.0s' $(seq 150))/$(printf 'e%.0s' $(seq 150))"
  echo root > etc/passwd; echo gone > etc/gone; echo a > full/a; echo b > full/b; echo x > etc/deep/er/x
  ln etc/passwd etc/passwd-; ln -s /etc/passwd bin/absolute; ln -s ../../../../up bin/dangling
  echo long > "$(printf 'd%.0s' $(seq 150))/$(printf 'e%.0s' $(seq 150))/ünï code"
  echo su > bin/su; chown 70000:3000000 bin/su; chmod 6755 bin/su; setcap cap_net_raw+ep bin/su
  mkfifo -m 622 fifo; mknod -m 640 disk b 8 300; mknod -m 666 null c 1 3
  chmod 1777 full; chown 5:50 shared; chmod 2775 shared; chown 7:8 etc/deep; chmod 750 etc/deep
  truncate -s 3M hole; printf middle | dd of=hole bs=1 seek=1000000 conv=notrunc status=none
  setfattr -n user.text -v value bin/su 2>/dev/null || true
  find . -exec touch -h -d '2011-05-06 07:08:09.123456789' {} +
`
/** The layer above deletes, replaces, links, and leaves folders out that are below. */
const TOP: readonly Entry[] = [
  { path: 'etc/' },
  { path: 'etc/.wh.gone' },
  { path: 'etc/passwd', data: 'other', mode: 0o600 },
  { path: 'full/', mode: 0o711 },
  { path: 'full/.wh..wh..opq' },
  { path: 'full/c', data: 'c' },
  { path: 'full/linked', link: 'full/c', type: 'hardlink' },
  { path: 'shared', data: 'a file now' },
  { path: 'fifo/' },
  { path: 'fifo/in', data: '' },
  { path: 'etc/deep/er/y', data: 'y' },
]
const TIMES = "find . -mindepth 1 -type d ! -path './etc/deep*' -printf '%p %T@\\n' | LC_ALL=C sort"

const trees: string[] = []

onEveryTarget((target) => {
  let registry: Registry
  let reference: string
  beforeAll(async () => {
    registry = await startRegistry()
    reference = await registry.push('layers', '1', imageOf([await packed(target().dir), tar(TOP)]))
  })
  afterAll(() => registry[Symbol.asyncDispose]())

  test('an image is laid out as every other runtime lays it out, and by one call as by many', async () => {
    await target().pull(reference)

    const seen = await treeOf(target())

    expect(seen).toContain('full/linked')
    expect(seen).not.toContain('full/a')
    expect(seen).toContain('cap_net_raw')
    trees.push(seen)
    if (target().name === 'gantry') trees.push(await treeOfOneCall(target(), reference))
    expect(trees).toEqual(trees.map(() => trees[0]))
  })
})

/** Containerd's clients fetch and unpack by themselves; Gantry does so for ours. */
async function treeOfOneCall(target: Target, reference: string): Promise<string> {
  const namespace = target.anotherNamespace()
  await using client = createClient({ address: target.address, namespace })
  await client.images.pull(reference, { unpack: true }, () => undefined, AbortSignal.timeout(60_000))
  return await treeOf(target, namespace)
}

async function packed(dir: string): Promise<Uint8Array> {
  const [source, archive] = [join(dir, 'source'), join(dir, 'source.tar')]
  mkdirSync(source)
  expect(await run(['sh', '-ec', BASE], { cwd: source })).toMatchObject({ code: 0 })
  const options = ['--format=pax', '--sparse', '--xattrs', '--xattrs-include=*', '--sort=name', '--numeric-owner']
  expect(await run(['tar', '-C', source, ...options, '-cf', archive, '.'])).toMatchObject({ code: 0 })
  rmSync(source, { recursive: true })
  return readFileSync(archive)
}

/** Everything in the snapshot that nothing lies on. */
async function treeOf(target: Target, namespace = target.namespace): Promise<string> {
  const ctr = (args: readonly string[]) => target.ctr(['-n', namespace, ...args])
  const listed = rows((await ctr(['snapshots', 'ls'])).stdout).filter((row) => row.at(-1) === 'Committed')
  const top = listed.find(([name]) => !listed.some(([, parent]) => parent === name))?.[0] ?? ''
  await using _ = await hold({ ...target, namespace }, 'snapshots/overlayfs', ['look'])
  await ctr(['snapshots', 'view', 'look', top])
  const seen = await within({ ...target, ctr }, 'look', `${LIST}\n${TIMES}`)
  await ctr(['snapshots', 'rm', 'look'])
  return seen
}
