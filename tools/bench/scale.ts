/**
 * A node with very many records: how long its processes take to start, a Get in its owner, a collection, and how long that
 * one stops writers.
 *
 *   sh tools/bench.sh scale [--part 0.1]      a part of 100,000 images, 10,000 containers, 100,000 snapshots, 300,000 blobs
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { create, type DescMessage, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { Containers, GetContainerRequestSchema } from '@gantry/api/containerd/services/containers/v1/containers_pb'
import { Content, InfoRequestSchema } from '@gantry/api/containerd/services/content/v1/content_pb'
import { GetImageRequestSchema, Images } from '@gantry/api/containerd/services/images/v1/images_pb'
import { Snapshots, StatSnapshotRequestSchema } from '@gantry/api/containerd/services/snapshots/v1/snapshots_pb'
import { Health, HealthCheckResponse_ServingStatus as Serving } from '@gantry/api/grpc/health/v1/health_pb'
import { startDaemon, until } from '@gantry/e2e/harness/daemon'
import { startGantry, WORKSPACE } from '@gantry/e2e/harness/gantry'
import { processOf } from '@gantry/e2e/harness/kill'
import { peakOf, pssOf } from '@gantry/e2e/harness/memory'
import type { Running } from '@gantry/e2e/harness/running'
import { clientOf, connect } from '@gantry/rpc/client'
import { h2load } from './h2load.ts'
import { containerId, digestOf, fillNode, imageName, NAMESPACE } from './scale-records.ts'

const APPS = ['metadata', 'content', 'snapshots', 'tasks', 'gateway'] as const
const GETS = 2000
const DELETED = 0.01 // part of the images that are deleted for a collection
const WRITE_EVERY_MS = 5
const START_MS = 30_000

const { values } = parseArgs({ options: { part: { type: 'string', default: '1' } } })
const part = Number(values.part)
const images = Math.round(100_000 * part)
const amounts = { images, containers: Math.round(10_000 * part), orphans: Math.round(images * DELETED) }
const signal = AbortSignal.timeout(600_000)

const dir = mkdtempSync(join(tmpdir(), 'gs-'))
try {
  const [root, state] = [join(dir, 'r'), join(dir, 's')]
  mkdirSync(state, { recursive: true })
  const from = performance.now()
  await fillNode(root, amounts)
  say(`${images} images, ${amounts.containers} containers, ${images} snapshots, ${3 * images} blobs`)
  say(`filled in ${seconds(performance.now() - from)}; load ${loadavg()[0]?.toFixed(1)}\n`)
  for (const app of APPS) await measureStart(app, root, state)
  await using node = await startGantry(root, state)
  await until('the first collection is over', () => collectionsOf(node).length > 0, { withinMs: 60_000 })
  await measureGets(state)
  await measureCollections(node, state)
  for (const app of APPS) {
    const pid = processOf(node, app) ?? 0
    row(`memory of ${app}`, `${pssOf([pid]).toFixed(0)} MiB, at most ${peakOf(pid).toFixed(0)}`)
  }
} finally {
  rmSync(dir, { recursive: true, force: true })
}

/** From the start of the process to the first answer on its socket. */
async function measureStart(app: (typeof APPS)[number], root: string, state: string): Promise<void> {
  const main = join(WORKSPACE, 'apps', app, 'main.ts')
  const from = performance.now()
  await using daemon = startDaemon([process.execPath, main, '--root', root, '--state', state])
  const socket = join(state, app === 'gateway' ? 'gantry.sock' : `${app}.sock`)
  await using channel = connect(socket)
  const health = clientOf(Health, channel)
  for (;;) {
    const reply = await health.check({}, { signal, waitMs: START_MS, timeoutMs: START_MS }).catch(() => undefined)
    if (reply?.status === Serving.SERVING) break
    if (!daemon.running() || performance.now() - from > START_MS)
      throw new Error(`${app} does not serve: ${daemon.log()}`)
    await sleep(10)
  }
  row(`start of ${app}`, `${(performance.now() - from).toFixed(0)} ms`)
}

/** One caller, straight at the owner, with no collection beside it: how long a call takes, with both ends of the socket. */
async function measureGets(state: string): Promise<void> {
  const middle = Math.round(amounts.containers / 2)
  const gets = [
    ['metadata', 'containers.v1.Containers/Get', bytesOf(GetContainerRequestSchema, { id: containerId(middle) })],
    ['metadata', 'images.v1.Images/Get', bytesOf(GetImageRequestSchema, { name: imageName(middle) })],
    ['content', 'content.v1.Content/Info', bytesOf(InfoRequestSchema, { digest: digestOf('manifest', middle) })],
    [
      'snapshots',
      'snapshots.v1.Snapshots/Stat',
      bytesOf(StatSnapshotRequestSchema, { snapshotter: 'overlayfs', key: containerId(middle) }),
    ],
  ] as const
  for (const [app, method, message] of gets) {
    const call = { path: `/containerd.services.${method}`, namespace: NAMESPACE, messages: [message] }
    const load = await h2load(join(state, `${app}.sock`), { ...call, callers: 1, calls: GETS })
    row(method, `${(1000 / load.callsPerSecond).toFixed(2)} ms`)
  }
}

/** The one at the start, and one after a part of the images was deleted, with writers beside it. */
async function measureCollections(node: Running, state: string): Promise<void> {
  await using metadata = connect(join(state, 'metadata.sock'))
  await using content = connect(join(state, 'content.sock'))
  await using snapshots = connect(join(state, 'snapshots.sock'))
  const options = { signal, namespace: NAMESPACE }
  const [imageClient, containers] = [clientOf(Images, metadata), clientOf(Containers, metadata)]
  const [blobs, trees] = [clientOf(Content, content), clientOf(Snapshots, snapshots)]
  const last = images - amounts.orphans - 1
  const digest = digestOf('manifest', 0)
  const labels = { 'bench.example/round': 'x' }
  const updateMask = { paths: ['labels.bench.example/round'] }
  const writes = {
    'a container': () => containers.update({ container: { id: containerId(0), labels }, updateMask }, options),
    'a blob': () => blobs.update({ info: { digest, labels }, updateMask }, options),
    'a snapshot': () =>
      trees.update({ snapshotter: 'overlayfs', info: { name: containerId(0), labels }, updateMask }, options),
  }
  const quiet = await longest(writes, sleep(2000))
  for (let n = 0; n < amounts.orphans; n++) await imageClient.delete({ name: imageName(last - n) }, options)
  const lease = imageClient.delete({ name: imageName(last - amounts.orphans), sync: true }, options)
  const busy = await longest(writes, lease)
  for (const line of collectionsOf(node)) row('collection', line)
  for (const what of Object.keys(writes))
    row(`longest write of ${what}`, `${quiet[what]?.toFixed(0)} ms before, ${busy[what]?.toFixed(0)} ms beside it`)
}

/** The longest time each of them took, one after the other again and again, until `over`; in ms. */
async function longest(
  writes: Readonly<Record<string, () => Promise<unknown>>>,
  over: Promise<unknown>,
): Promise<Record<string, number>> {
  let isOver = false
  const ended = over.finally(() => {
    isOver = true
  })
  const found: Record<string, number> = {}
  const writers = Object.entries(writes).map(async ([what, write]) => {
    while (!isOver) {
      const from = performance.now()
      await write()
      found[what] = Math.max(found[what] ?? 0, performance.now() - from)
      await sleep(WRITE_EVERY_MS)
    }
  })
  await Promise.all([...writers, ended])
  return found
}

function collectionsOf({ daemon }: Running): string[] {
  return daemon
    .log()
    .split('\n')
    .filter((line) => line.includes('Collected'))
}

function bytesOf<S extends DescMessage>(schema: S, init: MessageInitShape<S>): Uint8Array {
  return toBinary(schema, create(schema, init))
}

function row(what: string, figure: string): void {
  say(`${what.padEnd(32)} ${figure}`)
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`
}
