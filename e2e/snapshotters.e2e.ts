/**
 * Snapshotters beside overlayfs: whole trees, those of another process, and ours as another daemon's. Debian's containerd is an
 * independent judge of both ends.
 */
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Mounts } from '@gantry/api/containerd/services/mounts/v1/mounts_pb'
import { Snapshots } from '@gantry/api/containerd/services/snapshots/v1/snapshots_pb'
import { createClient } from '@gantry/client/client'
import { type Channel, clientOf, connect } from '@gantry/rpc/client'
import { listen } from '@gantry/rpc/server'
import { bind, type Implementation } from '@gantry/rpc/service'
import { afterAll, afterEach, beforeAll, expect, inject, test } from 'vitest'
import { run } from './harness/command.ts'
import { startContainerd } from './harness/containerd.ts'
import { until } from './harness/daemon.ts'
import { GANTRY, gantryEnv, startGantry } from './harness/gantry.ts'
import { lastingTraces, removeNamespaceCgroups } from './harness/leaks.ts'
import type { Running } from './harness/running.ts'
import { rows, words } from './harness/text.ts'

const dir = mkdtempSync(join(tmpdir(), 'gs-'))
const namespace = `snap${dir.slice(-6).replace(/[^A-Za-z0-9]/g, 'x')}`
const ids = new Set<string>()
const stack = new AsyncDisposableStack()
/** Gantry with another Gantry and a containerd as remotes; a containerd with the first Gantry as remote. */
let gantry: Running
let other: Running
let containerd: Running
let above: Running

const folders = (name: string): [string, string] => {
  for (const part of ['root', 'state']) mkdirSync(join(dir, name, part), { recursive: true })
  return [join(dir, name, 'root'), join(dir, name, 'state')]
}
const ctr = (node: Running, ...args: string[]) => {
  for (const arg of args) ids.add(arg)
  return run(['ctr', '-a', node.address, ...args], { env: { CONTAINERD_NAMESPACE: namespace } })
}
const snapshots = async (node: Running, ...options: string[]) =>
  rows((await ctr(node, 'snapshots', ...options, 'ls')).stdout)

beforeAll(async () => {
  chmodSync(dir, 0o711) // a mapped root walks through it
  other = stack.use(await startGantry(...folders('o')))
  containerd = stack.use(await startContainerd(...folders('c')))
  const [root, state] = folders('g')
  const config = join(dir, 'gantry.toml')
  const remotes = [
    `[snapshots.proxy.far]\naddress = "${other.address}"\nsnapshotter = "gantry"`,
    `[snapshots.proxy.templates]\naddress = "${join(dir, 'templates.sock')}"\nsnapshotter = "gantry"`,
    `[snapshots.proxy.old]\naddress = "${containerd.address}"\nsnapshotter = "overlayfs"`,
  ]
  writeFileSync(config, remotes.join('\n'))
  gantry = stack.use(await startGantry(root, state, ['--config', config]))
  const bindings = [bind(Snapshots, withTemplates(stack.use(connect(other.address))))]
  stack.use(await listen({ address: join(dir, 'templates.sock'), bindings, log: { error() {}, debug() {} } }))
  const plugin = ['[proxy_plugins.gantry]', 'type = "snapshot"', `address = "${gantry.address}"`]
  above = stack.use(await startContainerd(...folders('a'), plugin))
}, 120_000)
afterAll(async () => {
  await stack.disposeAsync()
  removeNamespaceCgroups([namespace])
  const remains = await lastingTraces({ dir, namespaces: [namespace], ids, daemons: () => [] })
  if (remains.length === 0) rmSync(dir, { recursive: true })
  expect(remains).toEqual([])
}, 60_000)
afterEach(async () => {
  for (const node of [gantry, above])
    for (const id of words((await ctr(node, 'tasks', 'ls', '-q')).stdout)) await ctr(node, 'tasks', 'rm', '-f', id)
})

/** Pulls and runs, and takes all away again. */
async function pullsAndRuns(node: Running, snapshotter: string): Promise<void> {
  const image = inject('image')
  const using = ['--snapshotter', snapshotter]
  const pulled = await ctr(node, 'images', 'pull', '--plain-http', ...using, image)
  expect(pulled).toMatchObject({ code: 0 })
  const layers = await snapshots(node, ...using)
  expect(layers.map((row) => row.at(-1))).toEqual(['Committed', 'Committed'])

  const ran = await ctr(
    node,
    'run',
    '--rm',
    ...using,
    image,
    `on-${snapshotter}`,
    'sh',
    '-c',
    'echo hi > /new; cat /new',
  )
  expect(ran).toEqual({ code: 0, stdout: 'hi\n', stderr: '' })

  await until('the layers are all that is left', async () => (await snapshots(node, ...using)).length === 2)
}

async function takesAllAway(node: Running, snapshotter: string): Promise<void> {
  expect((await ctr(node, 'images', 'rm', '--sync', inject('image'))).code).toBe(0)
  for (let left = await snapshots(node, '--snapshotter', snapshotter); left.length > 0; ) {
    for (const [name = ''] of left) await ctr(node, 'snapshots', '--snapshotter', snapshotter, 'rm', name)
    const rest = await snapshots(node, '--snapshotter', snapshotter)
    expect(rest.length).toBeLessThan(left.length)
    left = rest
  }
}

test('snapshotters are listed as plugins', async () => {
  const plugins = rows((await ctr(gantry, 'plugins', 'ls')).stdout)

  for (const name of ['overlayfs', 'native', 'far', 'old'])
    expect(plugins).toContainEqual(['io.containerd.snapshotter.v1', name, expect.stringMatching(/^linux\//), 'ok'])
})

test('an image is pulled and run as whole trees', async () => {
  await pullsAndRuns(gantry, 'native')

  const mounts = await ctr(gantry, 'snapshots', '--snapshotter', 'native', 'prepare', '--target', '/mnt', 'box')
  expect(mounts.stdout).toMatch(/^mount -t bind \S+\/native\/\d+\/fs \/mnt -o rbind,rw\n$/)
  await ctr(gantry, 'snapshots', '--snapshotter', 'native', 'rm', 'box')
  await takesAllAway(gantry, 'native')
})

test('a container with ids of its own sees the files of the image as its own', async () => {
  const image = inject('image')
  await ctr(gantry, 'images', 'pull', '--plain-http', image)
  const look = 'stat -c "%u %g %n" / /etc/motd /home/demo/own && echo x > /new && stat -c "%u %g" /new && id -u'
  const argv = [
    GANTRY,
    'run',
    '--rm',
    '--uidmap',
    '0:100000:65536',
    '--gidmap',
    '0:200000:65536',
    image,
    'sh',
    '-c',
    look,
  ]

  const ran = await run(argv, { env: gantryEnv(gantry.address, namespace) })

  const seen = ['0 0 /', '0 0 /etc/motd', '1000 1000 /home/demo/own', '0 0', '0']
  expect(ran).toEqual({ code: 0, stdout: `${seen.join('\n')}\n`, stderr: '' })
  await takesAllAway(gantry, 'overlayfs')
})

test.each([
  ['another Gantry', 'far', () => snapshots(other, '--snapshotter', 'gantry')],
  ['a containerd', 'old', () => snapshots(containerd, '--snapshotter', 'overlayfs')],
])('an image is pulled and run with the snapshots of %s', async (_, name, remote) => {
  await pullsAndRuns(gantry, name)

  expect((await remote()).map(([key]) => key)).toEqual([
    expect.stringMatching(new RegExp(`^${namespace}/\\d+/sha256:`)),
    expect.stringMatching(new RegExp(`^${namespace}/\\d+/sha256:`)),
  ])
  await takesAllAway(gantry, name)
  await until('the remote has nothing any more', async () => (await remote()).length === 0)
})

/** A snapshotter whose layers have to be mounted each before they are layers, as those of erofs. */
function withTemplates(channel: Channel): Implementation<typeof Snapshots> {
  const remote = clientOf(Snapshots, channel)
  return {
    prepare: (request, call) => remote.prepare(request, call),
    view: (request, call) => remote.view(request, call),
    commit: (request, call) => remote.commit(request, call),
    remove: (request, call) => remote.remove(request, call),
    stat: (request, call) => remote.stat(request, call),
    update: (request, call) => remote.update(request, call),
    list: (request, call) => remote.list(request, call),
    usage: (request, call) => remote.usage(request, call),
    cleanup: (request, call) => remote.cleanup(request, call),
    async mounts(request, call) {
      const [overlay] = (await remote.mounts(request, call)).mounts
      const options = overlay?.options ?? []
      const lower = options.find((option) => option.startsWith('lowerdir='))?.slice('lowerdir='.length) ?? ''
      const layers = lower.split(':').map((source) => ({ type: 'bind', source, options: ['ro', 'rbind'] }))
      const own = options.filter((option) => !option.startsWith('lowerdir='))
      const template = [`lowerdir={{ overlay 0 ${layers.length - 1} }}`, ...own]
      return { mounts: [...layers, { type: 'format/overlay', source: 'overlay', options: template }] }
    },
  }
}

test('a container whose mounts are templates runs, and its layers are unmounted with it', async () => {
  const image = inject('image')
  const using = ['--snapshotter', 'templates']
  const signal = AbortSignal.timeout(60_000)
  await using channel = connect(gantry.address)
  const active = async () => {
    return (await Array.fromAsync(clientOf(Mounts, channel).list({}, { namespace, signal }))).map(
      ({ info }) => info?.active.length,
    )
  }
  expect((await ctr(gantry, 'images', 'pull', '--plain-http', ...using, image)).code).toBe(0)
  await using client = createClient({ address: gantry.address, namespace })
  const spec = { args: ['sh', '-c', 'cat /home/demo/own; echo hi > /new; cat /new'] }
  await client.containers.create({ id: 'tpl', image, snapshotter: 'templates', spec }, signal)
  const task = await client.tasks.create('tpl', { stdio: {} }, signal)
  const exited = task.wait(signal)
  await task.start(signal)

  expect((await exited).status).toBe(0)
  expect(await active()).toEqual([2])
  await task.delete(signal)
  expect(await active()).toEqual([])
  await client.containers.delete('tpl', {}, signal)
  await takesAllAway(gantry, 'templates')
})

test('containerd pulls and runs an image with the snapshots of Gantry', async () => {
  await pullsAndRuns(above, 'gantry')

  await until('its collection has removed the rest', () => readdirSync(gantry.snapshotFolders).length === 2)
  expect(await snapshots(gantry, '--snapshotter', 'gantry')).toHaveLength(2)
  expect((await ctr(above, 'images', 'rm', '--sync', inject('image'))).code).toBe(0)
  await until('its collection has removed them', () => readdirSync(gantry.snapshotFolders).length === 0)
})
