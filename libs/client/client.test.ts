import { closeSync, openSync, writeSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { create, type DescService, fromBinary, toBinary } from '@bufbuild/protobuf'
import { Containers } from '@gantry/api/containerd/services/containers/v1/containers_pb'
import { Content } from '@gantry/api/containerd/services/content/v1/content_pb'
import { Events } from '@gantry/api/containerd/services/events/v1/events_pb'
import { Images } from '@gantry/api/containerd/services/images/v1/images_pb'
import { Controller, Store } from '@gantry/api/containerd/services/sandbox/v1/sandbox_pb'
import { Snapshots } from '@gantry/api/containerd/services/snapshots/v1/snapshots_pb'
import { StreamInitSchema, Streaming } from '@gantry/api/containerd/services/streaming/v1/streaming_pb'
import { Tasks } from '@gantry/api/containerd/services/tasks/v1/tasks_pb'
import { Transfer } from '@gantry/api/containerd/services/transfer/v1/transfer_pb'
import { EnvelopeSchema } from '@gantry/api/containerd/types/event_pb'
import { Status } from '@gantry/api/containerd/types/task/task_pb'
import { ImageStoreSchema } from '@gantry/api/containerd/types/transfer/imagestore_pb'
import { ProgressSchema } from '@gantry/api/containerd/types/transfer/progress_pb'
import {
  AuthRequestSchema,
  AuthResponseSchema,
  OCIRegistrySchema,
} from '@gantry/api/containerd/types/transfer/registry_pb'
import { SequencedEnvelopeSchema } from '@gantry/api/gantry/events/v1/events_pb'
import { MEDIA } from '@gantry/model/descriptor'
import { sha256Of } from '@gantry/model/digest'
import { Fault } from '@gantry/model/fault'
import { EXPLICITLY_STOPPED, RESTART_POLICY, RESTART_STATUS } from '@gantry/model/restart'
import { listen } from '@gantry/rpc/server'
import { type Binding, bind, type Implementation, unimplemented } from '@gantry/rpc/service'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Packed, pack, packJson } from './any.ts'
import { createClient } from './client.ts'

const REFERENCE = 'localhost/box:1'
const EMPTY: Packed = { typeUrl: 'google.protobuf.Empty', value: new Uint8Array() }
const signal = AbortSignal.timeout(20_000)

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gantry-client-'))
})
afterEach(() => rm(folder, { recursive: true }))

async function served(...bindings: Binding[]) {
  const address = join(folder, 'server.sock')
  const server = await listen({ address, bindings, log: { error: () => undefined, debug: () => undefined } })
  const client = createClient({ address, namespace: 'default' })
  return {
    client,
    async [Symbol.asyncDispose]() {
      await client[Symbol.asyncDispose]()
      await server[Symbol.asyncDispose]()
    },
  }
}

/** A service of which only some methods are there. */
function some<S extends DescService>(service: S, methods: Partial<Implementation<S>>): Binding {
  const rest = Object.fromEntries(service.methods.map(({ localName }) => [localName, unimplemented(localName)]))
  return bind(service, { ...rest, ...methods } as Implementation<S>)
}

function image(target: { mediaType: string; digest: string; size: bigint }) {
  return some(Images, { get: async ({ name }) => ({ image: { name, target } }) })
}

/** A server that asks for credentials over one stream and reports over another. */
function transferring(seen: unknown[]) {
  const streams = new Map<string, { push(message: Packed): void; replies: AsyncIterator<Packed>; close(): void }>()
  const streaming = some(Streaming, {
    async *stream(requests) {
      const replies = requests[Symbol.asyncIterator]()
      const first = await replies.next()
      const waiting: Packed[] = [EMPTY]
      let wake = Promise.withResolvers<boolean>()
      const push = (message: Packed) => {
        waiting.push(message)
        wake.resolve(true)
      }
      const { id } = fromBinary(StreamInitSchema, first.value.value)
      streams.set(id, { push, replies, close: () => wake.resolve(false) })
      do {
        wake = Promise.withResolvers()
        while (waiting.length > 0) yield waiting.shift() ?? EMPTY
      } while (await wake.promise)
    },
  })
  const transfer = some(Transfer, {
    async transfer({ source, destination, options }) {
      const registry = fromBinary(OCIRegistrySchema, source?.value ?? new Uint8Array())
      seen.push(registry.reference, registry.resolver?.defaultScheme)
      seen.push(fromBinary(ImageStoreSchema, destination?.value ?? new Uint8Array()).unpacks[0]?.snapshotter)
      const progress = streams.get(options?.progressStream ?? '')
      const auth = streams.get(registry.resolver?.authStream ?? '')
      auth?.push(pack(AuthRequestSchema, { host: 'localhost' }))
      const reply = await auth?.replies.next()
      if (reply) seen.push(fromBinary(AuthResponseSchema, reply.value.value).secret)
      progress?.push(pack(ProgressSchema, { event: 'downloading', name: 'layer-1', progress: 1n, total: 2n }))
      progress?.push({ typeUrl: 'other.Message', value: new Uint8Array() })
      progress?.push(pack(ProgressSchema, { event: 'complete', name: 'layer-1', progress: 2n, total: 2n }))
      return {}
    },
  })
  return [streaming, transfer]
}

test('a pull reports progress, answers for credentials and returns the image', async () => {
  const seen: unknown[] = []
  const target = { mediaType: MEDIA.ociManifest, digest: sha256Of('m'), size: 1n }
  await using node = await served(image(target), ...transferring(seen))
  const events: string[] = []

  const pulled = await node.client.images.pull(
    REFERENCE,
    { plainHttp: true, credentials: { username: 'me', secret: 'word' } },
    ({ event, progress }) => events.push(`${event} ${progress}`),
    signal,
  )

  expect(pulled).toMatchObject({ name: REFERENCE, target })
  expect(seen).toEqual([REFERENCE, 'http', 'overlayfs', 'word'])
  expect(events).toEqual(['downloading 1', 'complete 2'])
})

test('a pull that fails says why', async () => {
  const failing = some(Transfer, {
    async transfer() {
      throw new Fault('not-found', 'no such image')
    },
  })
  await using node = await served(transferring([])[0] ?? failing, failing)

  const pulling = node.client.images.pull(REFERENCE, {}, () => undefined, signal)

  await expect(pulling).rejects.toMatchObject({ code: 'not-found', message: 'no such image' })
})

test('a report that cannot be taken ends the pull with the reason', async () => {
  const [begun, cancelled] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const streaming = some(Streaming, {
    async *stream() {
      yield EMPTY
      await begun.promise
      yield pack(ProgressSchema, { event: 'downloading' })
      await cancelled.promise
    },
  })
  const endless = some(Transfer, {
    async transfer(_request, context) {
      context.signal.addEventListener('abort', () => cancelled.resolve())
      begun.resolve()
      await cancelled.promise
      return {}
    },
  })
  await using node = await served(streaming, endless)
  const full = () => {
    throw new Error('nowhere to show it')
  }

  const pulling = node.client.images.pull(REFERENCE, {}, full, signal)

  await expect(pulling).rejects.toThrow('nowhere to show it')
  await cancelled.promise
})

function documents(...texts: string[]) {
  const blobs = new Map(texts.map((text) => [sha256Of(text) as string, Buffer.from(text)]))
  return some(Content, {
    async *read({ digest }) {
      const data = blobs.get(digest)
      if (!data) throw new Fault('not-found', 'no such blob')
      yield { offset: 0n, data: data.subarray(0, 5) }
      yield { offset: 5n, data: data.subarray(5) }
    },
  })
}

function described(text: string, mediaType: string, platform?: object) {
  return { mediaType, digest: sha256Of(text), size: text.length, ...(platform ? { platform } : {}) }
}

test('an image is resolved for a platform, through its index', async () => {
  const diffId = sha256Of('layer')
  const config = JSON.stringify({ os: 'linux', architecture: 'arm64', rootfs: { type: 'layers', diff_ids: [diffId] } })
  const layer = described('layer', MEDIA.ociLayer)
  const manifest = JSON.stringify({ config: described(config, MEDIA.ociConfig), layers: [layer] })
  const index = JSON.stringify({
    manifests: [
      described('x', MEDIA.ociManifest, { os: 'linux', architecture: 'amd64' }),
      described(manifest, MEDIA.ociManifest, { os: 'linux', architecture: 'arm64' }),
      described('y', MEDIA.ociManifest, { os: 'unknown', architecture: 'unknown' }),
    ],
  })
  const target = { mediaType: MEDIA.ociIndex, digest: sha256Of(index), size: BigInt(index.length) }
  await using node = await served(image(target), documents(config, manifest, index))

  const resolved = await node.client.images.resolve(REFERENCE, { platform: 'linux/arm64' }, signal)

  expect(resolved).toMatchObject({
    manifest: { digest: sha256Of(manifest) },
    configDigest: sha256Of(config),
    chainId: diffId,
    size: BigInt(manifest.length + config.length + 5),
  })
  await expect(node.client.images.resolve(REFERENCE, { platform: 'linux/s390x' }, signal)).rejects.toMatchObject({
    code: 'not-found',
  })
})

test('a document whose bytes are others is refused', async () => {
  const content = some(Content, {
    async *read() {
      yield { offset: 0n, data: Buffer.from('{}') }
    },
  })
  const target = { mediaType: MEDIA.ociManifest, digest: sha256Of('{ }'), size: 3n }
  await using node = await served(image(target), content)

  await expect(node.client.images.resolve(REFERENCE, {}, signal)).rejects.toMatchObject({ code: 'data-loss' })
})

test('a wait that the service broke is asked again', async () => {
  let asked = 0
  const tasks = some(Tasks, {
    get: async () => ({ process: { id: 'box' } }),
    async wait() {
      asked += 1
      if (asked < 3) throw new Fault('unavailable', 'going down')
      return { exitStatus: 3, exitedAt: { seconds: 5n, nanos: 0 } }
    },
  })
  await using node = await served(tasks)
  const task = await node.client.tasks.get('box', signal)

  expect(await task.wait(signal)).toEqual({ status: 3, at: new Date(5000) })
  expect(asked).toBe(3)
})

test('a wait that is given up while the service is away ends as one that was cancelled', async () => {
  const stop = new AbortController()
  const wait = async () => {
    setTimeout(() => stop.abort(), 50) // before it is asked again
    throw new Fault('unavailable', 'going down')
  }
  const task = { get: async () => ({ process: { id: 'box' } }), wait }
  await using node = await served(some(Tasks, task))
  const box = await node.client.tasks.get('box', signal)

  const given = box.wait(stop.signal)

  await expect(given).rejects.toMatchObject({ name: 'Fault', code: 'cancelled' })
})

test.each(['localhost:1234', 'unix:///run/gantry/gantry.sock', 'gantry.sock', '', 'tcp://nobody'])(
  '%j is no address of a server',
  (address) => {
    expect(() => createClient({ address, namespace: 'default' })).toThrow('address')
  },
)

test('a process whose output is not copied yet is not deleted: nobody waits for that who gave up, or when it still runs', {
  timeout: 20_000,
}, async () => {
  let status: Status = Status.RUNNING
  let paths = { stdout: '' }
  const create = async (request: { stdout: string }) => {
    paths = request
    return {}
  }
  const get = async () => ({ process: { id: 'box', status } })
  const tasks = { create, get, delete: async () => ({ exitStatus: 4, exitedAt: { seconds: 5n } }) }
  const containers = { get: async () => ({ container: { id: 'box' } }) }
  await using node = await served(some(Tasks, tasks), some(Containers, containers))
  const written = Promise.withResolvers<() => void>()
  const stdout = new Writable({ highWaterMark: 1, write: (_chunk, _encoding, done) => written.resolve(done) })
  const box = await node.client.tasks.create('box', { stdio: { stdout } }, signal)
  const fifo = openSync(paths.stdout, 'r+')
  writeSync(fifo, 'on and on') // more than there is room for
  const goOn = await written.promise

  const refused = box.delete(signal)
  await expect(refused).rejects.toMatchObject({ code: 'failed-precondition' })
  status = Status.STOPPED
  const cancelled = box.delete(AbortSignal.timeout(100)) // it is not copied
  await expect(cancelled).rejects.toMatchObject({ code: 'cancelled' })
  goOn()
  closeSync(fifo)

  expect(await box.delete(signal)).toEqual({ status: 4, at: new Date(5000) })
})

test('sandboxes are listed with those that nobody here runs', async () => {
  const list = [{ sandboxId: 'strange', sandboxer: 'podsandbox' }, { sandboxId: 'ours' }]
  const status = async ({ sandboxer }: { sandboxer: string }) => {
    if (sandboxer === 'podsandbox') throw new Fault('not-found', 'no such sandboxer')
    return { state: 'SANDBOX_READY', pid: 7 }
  }
  await using node = await served(some(Store, { list: async () => ({ list }) }), some(Controller, { status }))

  const found = await node.client.sandboxes.list(signal)

  expect(found.map(({ id, ready, pid }) => [id, ready, pid])).toEqual([
    ['strange', false, 0],
    ['ours', true, 7],
  ])
})

test('a container that runs is deleted when that is forced, and is not started again', async () => {
  const calls: string[] = []
  const said = async <T>(what: string, answer: T): Promise<T> => {
    calls.push(what)
    return answer
  }
  const labels = { [RESTART_STATUS]: 'running' }
  await using node = await served(
    some(Tasks, {
      get: async () => ({ process: { id: 'box' } }),
      kill: ({ signal, all }) => said(`kill ${signal} ${all}`, {}),
      wait: () => said('wait', { exitStatus: 137, exitedAt: { seconds: 5n, nanos: 0 } }),
      delete: () => said('delete task', { exitStatus: 137, exitedAt: { seconds: 5n, nanos: 0 } }),
    }),
    some(Containers, {
      get: async () => ({ container: { id: 'box', snapshotter: 'native', snapshotKey: 'box', labels } }),
      update: ({ container }) => said(`want ${container?.labels[RESTART_STATUS]}`, {}),
      delete: () => said('delete container', {}),
    }),
    some(Snapshots, { remove: ({ snapshotter, key }) => said(`remove ${snapshotter} ${key}`, {}) }),
  )
  const { containers } = node.client

  await expect(containers.delete('box', {}, signal)).rejects.toMatchObject({ code: 'failed-precondition' })
  expect(calls).toEqual([])
  await containers.delete('box', { force: true }, signal)
  expect(calls).toEqual([
    ...['want stopped', 'kill 9 true', 'wait', 'delete task', 'delete container', 'remove native box'],
  ])
})

test.each([
  [Status.RUNNING, { [RESTART_STATUS]: 'running', [EXPLICITLY_STOPPED]: 'false' }],
  [Status.STOPPED, {}],
])(
  'limits are changed in the record, whose other parts stay, and in what runs (task status %i)',
  async (status, wanted) => {
    const seen: unknown[] = []
    const resources = { cpu: { shares: 512, quota: 1 }, pids: { limit: 7 }, devices: [] }
    const namespaces = [{ type: 'pid' }, { type: 'network', path: '/old' }]
    const before = { linux: { resources, namespaces }, process: { rlimits: [{ hard: 2n ** 64n - 1n }] } }
    await using node = await served(
      some(Tasks, {
        get: async () => ({ process: { id: 'box', status } }),
        update: async ({ resources }) => {
          seen.push(textOf(resources))
          return {}
        },
      }),
      some(Containers, {
        get: async () => ({ container: { id: 'box', spec: packJson('Spec', before) } }),
        update: async ({ container, updateMask }) => {
          seen.push(textOf(container?.spec), container?.labels, updateMask?.paths)
          return {}
        },
      }),
    )

    const joins = { network: '/new' }
    const changes = { limits: { cpuShares: 64, memory: 5n }, restart: 'always', joins }
    await node.client.containers.update('box', changes, signal)

    const cpu = { shares: 64, quota: 1 }
    const linux = {
      resources: { cpu, pids: { limit: 7 }, devices: [], memory: { limit: 5 } },
      namespaces: [{ type: 'pid' }, { type: 'network', path: '/new' }],
    }
    const labels = { [RESTART_POLICY]: 'always', ...wanted }
    expect(seen).toEqual([
      ...(status === Status.RUNNING ? ['{"cpu":{"shares":64},"memory":{"limit":5}}'] : []),
      `{"linux":${JSON.stringify(linux)},"process":{"rlimits":[{"hard":18446744073709551615}]}}`,
      labels,
      [...Object.keys(labels).map((name) => `labels.${name}`), 'spec'],
    ])
    await expect(node.client.containers.update('box', { restart: 'never' }, signal)).rejects.toThrow('give no, always')
  },
)

function textOf(packed: Packed | undefined): string {
  return Buffer.from(packed?.value ?? []).toString()
}

test('a subscription goes on where it broke, with nothing lost or doubled', async () => {
  const asked: (string | undefined)[] = []
  const events = some(Events, {
    async *subscribe(_, context) {
      const from = context.header('gantry-events-from')
      asked.push(from)
      for (let at = BigInt(from ?? 0); at <= 9n; at++) {
        const sent = create(SequencedEnvelopeSchema, { topic: `/t/${at}`, sequence: at })
        yield fromBinary(EnvelopeSchema, toBinary(SequencedEnvelopeSchema, sent))
        if (at === 5n) throw new Fault('unavailable', 'going down')
      }
    },
  })
  await using node = await served(events)
  const stop = new AbortController()
  const seen: bigint[] = []

  for await (const { sequence } of node.client.events.subscribe({ from: 3n }, stop.signal)) {
    seen.push(sequence ?? 0n)
    if (sequence === 9n) stop.abort()
  }

  expect(seen).toEqual([3n, 4n, 5n, 6n, 7n, 8n, 9n])
  expect(asked).toEqual(['3', '6'])
})
