/** What a registry is asked for, by many clients at once and after `content` was killed in the middle. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { createClient } from '@gantry/client/client'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { until } from './harness/daemon.ts'
import type { Blob, Image } from './harness/image.ts'
import { processOf, signal, untilReplaced } from './harness/kill.ts'
import { giantImage, largeImage } from './harness/large-image.ts'
import { type Registry, startRegistry } from './harness/registry.ts'
import { startSlowPath } from './harness/slow-path.ts'
import { onGantry, type Target } from './harness/target.ts'
import { words } from './harness/text.ts'

const CLIENTS = 20
const KILLS = Number(process.env.GANTRY_E2E_KILLS ?? 10)
const LAST_KILL_MS = 500 // a pull takes about as long
const IN_PARTS = 3 // each so many rounds one layer comes in parts
const SLOW = 20_000_000 // bytes a second of a connection then
const KILL_TAKES_MS = 40_000
const KILLS_OF_A_NODE = 4 // each time it waits twice as long before it starts again what has ended

const stack = new AsyncDisposableStack()
let registry: Registry
let slowHost: string
beforeAll(async () => {
  registry = stack.use(await startRegistry({ requests: true }))
  slowHost = stack.use(await startSlowPath(registry.host, SLOW)).host
})
afterAll(() => stack.disposeAsync())

const pull = async (target: Target, reference: string, namespace = target.namespace) => {
  await using client = createClient({ address: target.address, namespace })
  return await client.images.pull(reference, { unpack: false }, () => undefined, AbortSignal.timeout(60_000))
}
const bytesHere = ({ dir }: Target, folder: string) =>
  readdirSync(join(dir, 'root', 'content', folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .filter(({ name }) => !name.startsWith('front'))
    .map(({ name, parentPath }) => ({ name, size: frontIn(parentPath) ?? statSync(join(parentPath, name)).size }))
/** How far an upload is without a gap, when that is written down. */
const frontIn = (upload: string): number | undefined =>
  existsSync(join(upload, 'front')) ? Number(readFileSync(join(upload, 'front'), 'utf8')) : undefined

onGantry((target) => {
  test(`${CLIENTS} clients in two namespaces that pull the same image at once: each blob is asked for once`, async () => {
    const image = largeImage(100)
    const reference = await registry.push('crowd', '1', image)
    const names = [target().namespace, target().anotherNamespace()]

    const pulls = Array.from({ length: CLIENTS }, (_, at) => pull(target(), reference, names[at % 2]))
    const digests = new Set((await Promise.all(pulls)).map(({ target: { digest } }) => digest))

    expect([...digests]).toEqual([image.manifest.digest])
    const counts = blobsOf(image).map(({ digest }) => fetches(registry, digest).length)
    expect(counts).toEqual(blobsOf(image).map(() => 1))
  })
})

for (let first = 0; first < KILLS; first += KILLS_OF_A_NODE) {
  const rounds = Array.from({ length: Math.min(KILLS_OF_A_NODE, KILLS - first) }, (_, at) => first + at)
  onGantry((target) => {
    test(
      `content is killed at ${rounds.length} moments of a pull: the next pull asks for the rest only, and nothing is left`,
      async () => {
        for (const round of rounds) await killedInPull(target(), round)
      },
      rounds.length * KILL_TAKES_MS,
    )
  })
}

async function killedInPull(target: Target, round: number): Promise<void> {
  const inParts = round % IN_PARTS === 0
  const image = (inParts ? giantImage : largeImage)(200 + round)
  const pushed = await registry.push(`killed-${round}`, '1', image)
  const reference = inParts ? pushed.replace(registry.host, slowHost) : pushed
  const isOfImage = ({ name }: { name: string }) => blobsOf(image).some(({ digest }) => digest.endsWith(name))
  const first = pull(target, reference).then(
    () => 'done',
    () => 'failed',
  )
  await sleep(Math.random() * LAST_KILL_MS)
  const before = await signal(target, 'content', 'SIGKILL')
  const outcome = await first
  await until('it ended', () => processOf(target, 'content') !== before)
  const here = sum([...bytesHere(target, 'blobs').filter(isOfImage), ...bytesHere(target, 'ingest')])
  await registry.settled()
  const asked = registry.requests().length
  await untilReplaced(target, 'content', before)

  expect((await pull(target, reference)).target.digest).toBe(image.manifest.digest)

  const again = blobsOf(image).flatMap(({ digest }) => fetches(registry, digest, asked))
  expect({ outcome, bytes: again.reduce((total, size) => total + size, 0) }).toEqual({
    outcome,
    bytes: sum(blobsOf(image)) - here,
  })
  expect((await target.ctr(['images', 'check', `name==${reference}`])).stdout).toContain('complete')
  expect(words((await target.ctr(['leases', 'ls', '-q'])).stdout)).toEqual([])
  expect((await target.ctr(['content', 'active'])).stdout.trim().split('\n')).toHaveLength(1)
  expect(readdirSync(join(target.dir, 'root', 'content', 'ingest'))).toEqual([])
}

function blobsOf({ manifest, config, layers }: Image): Blob[] {
  return [manifest, config, ...layers]
}

/** How many bytes the registry sent each time the object was asked for, from `offset` of its log on. */
function fetches(registry: Registry, digest: string, offset = 0): number[] {
  const lines = registry.requests().slice(offset).split('\n')
  return lines
    .filter((line) => line.includes('"GET /v2/') && line.includes(`/${digest} `))
    .map((line) => Number(/" 20\d (\d+) "/.exec(line)?.[1]))
}

function sum(sized: readonly { readonly size: number }[]): number {
  return sized.reduce((total, { size }) => total + size, 0)
}
