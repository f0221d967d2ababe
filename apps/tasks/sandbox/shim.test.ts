import { chmodSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { DescMessage, MessageInitShape } from '@bufbuild/protobuf'
import { Sandbox } from '@gantry/api/containerd/runtime/sandbox/v1/sandbox_pb'
import { Task } from '@gantry/api/containerd/runtime/task/v3/shim_pb'
import { type Binding, bind, type Implementation } from '@gantry/rpc/service'
import { listenTtrpc } from '@gantry/rpc/ttrpc-server'
import { openStore } from '@gantry/store/store'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { createRegistry } from '../registry.ts'
import type { Host } from '../runtime/choose.ts'
import type { Runtime } from '../runtime/runtime.ts'
import { createLinks } from '../shim/link.ts'
import type { ShimRuntimeParts } from '../shim/shim-runtime.ts'
import type { Tasks } from '../tasks.ts'
import { openSandboxTasks } from './open.ts'
import { sandboxService } from './sandbox-service.ts'
import { createSandboxes } from './sandboxes.ts'
import { createShimSandboxes } from './shim.ts'

const pod = { sandboxId: 'pod', sandboxer: 'shim' }
const context = { namespace: 'test', signal: new AbortController().signal }
const quiet = vi.fn()
const log = { info: quiet, warn: quiet, error: console.error, debug: quiet } as unknown as ShimRuntimeParts['log']
let folder: string
let asked: string[]
let told: string[]
let shim: AsyncDisposable
let stopped: PromiseWithResolvers<void>

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'gantry-sandbox-'))
  ;[asked, told, stopped] = [[], [], Promise.withResolvers()]
  writeFileSync(join(folder, 'containerd-shim-pod-v1'), script())
  chmodSync(join(folder, 'containerd-shim-pod-v1'), 0o755)
  shim = await listenTtrpc({ address: join(folder, 'shim.sock'), bindings: shimBindings(), log })
})
afterEach(async () => {
  stopped.resolve()
  await shim[Symbol.asyncDispose]()
  rmSync(folder, { recursive: true })
})

/** The program of the shim: the shim itself is here. */
function script(): string {
  const answer = JSON.stringify({ version: 3, address: `unix://${folder}/shim.sock`, protocol: 'ttrpc' })
  return `#!/bin/sh\nfor last; do :; done\n[ "$last" = start ] && echo '${answer}'\ntouch ${folder}/$last\n`
}

function shimBindings(): Binding[] {
  const answer =
    <T>(method: string, reply: T) =>
    async (request: unknown) => {
      asked.push(method)
      if (method === 'create') expect(request).toMatchObject({ netnsPath: '/run/netns/a', annotations: { a: 'b' } })
      return reply
    }
  const sandbox = {
    createSandbox: answer('create', {}),
    startSandbox: answer('start', { pid: 77 }),
    sandboxStatus: answer('status', { sandboxId: 'pod', pid: 77, state: 'good' }),
    platform: answer('platform', { platform: { os: 'linux', architecture: 'riscv64' } }),
    sandboxMetrics: answer('metrics', { metrics: { id: 'pod' } }),
    async stopSandbox() {
      asked.push('stop')
      stopped.resolve()
      return {}
    },
    async waitSandbox() {
      await stopped.promise
      return { exitStatus: 3 }
    },
    shutdownSandbox: answer('shutdown', {}),
  }
  const task = { connect: async () => ({}) }
  return [
    bind(Sandbox, sandbox as unknown as Implementation<typeof Sandbox>),
    bind(Task, task as unknown as Implementation<typeof Task>),
  ]
}

/** One run of the part of `tasks` that runs sandboxes. */
async function open() {
  const store = openStore(join(folder, 'records'))
  const links = createLinks(log)
  const shims = createShimSandboxes({
    ...{ links, log, env: { PATH: '/usr/bin:/bin' }, now: Date.now },
    ...{ grpcAddress: join(folder, 'g'), ttrpcAddress: join(folder, 't') },
  })
  const emit = <S extends DescMessage>(_ns: string, topic: string, _schema: S, _init: MessageInitShape<S>) =>
    void told.push(topic)
  const host = {
    find: (name: string) => [join(folder, name)].find((path) => existsSync(path)),
  } as unknown as Host
  const networks = { attach: vi.fn(), detach: async () => undefined, sweep: async () => undefined }
  const pods = await openSandboxTasks({
    ...{ store, state: folder, host, shims, networks, boot: 'this', now: Date.now, log },
    builtIn: { discard: quiet, endInput: quiet } as unknown as Runtime,
    write: (change) => store.write(() => change(emit)),
    limits: { unbounded: true, oomScoreAdj: 0, hard: new Map() },
  })
  const containers = { registry: createRegistry(), tasks: {} as Tasks }
  const sandboxes = createSandboxes({ ...pods, shims, host, init: 'none', now: Date.now, containers })
  const runtimes = { configured: 'auto', host, state: folder }
  const service = sandboxService({ sandboxes, shims, store: {} as never, runtimes, now: Date.now })
  type Call = (request: object, context: object) => Promise<object>
  return {
    pods,
    call: (method: keyof typeof service, more = {}) => (service[method] as Call)({ ...pod, ...more }, context),
    async [Symbol.asyncDispose]() {
      for (const { init } of pods.registry.all()) init.watch?.[Symbol.dispose]()
      pods[Symbol.dispose]()
      await links[Symbol.asyncDispose]()
      await store[Symbol.asyncDispose]()
    },
  }
}

const sandbox = { sandboxId: 'pod', sandboxer: 'shim', labels: {}, runtime: { name: 'io.containerd.pod.v1' } }
const request = { sandbox, rootfs: [], netnsPath: '/run/netns/a', annotations: { a: 'b' } }

test('a shim makes, starts, describes and ends its sandbox, also after a restart of ours', async () => {
  {
    await using node = await open()
    await node.call('create', request)
    await expect(node.call('create', request)).rejects.toMatchObject({ code: 'already-exists' })
    const started = await node.call('start')

    expect(started).toMatchObject({ pid: 77, address: `ttrpc+unix://${folder}/shim.sock`, version: 3 })
  }
  await using node = await open()
  expect(await node.call('status')).toMatchObject({ state: 'good', pid: 77, version: 3 })
  expect(await node.call('platform')).toMatchObject({ platform: { architecture: 'riscv64' } })
  expect(await node.call('metrics')).toMatchObject({ metrics: { id: 'pod' } })
  const ended = node.call('wait')
  await node.call('stop', { timeoutSecs: 1 })
  expect(await ended).toMatchObject({ exitStatus: 3 })
  await node.call('shutdown')

  expect(asked).toEqual(['create', 'start', 'status', 'platform', 'metrics', 'stop', 'shutdown'])
  expect(told).toEqual(['/sandboxes/create', '/sandboxes/start', '/sandboxes/exit'])
  expect(readdirSync(join(folder, 'sandboxes/bundles/test'))).toEqual([])
})

test('a container of the sandbox is given to its shim, unless it names another', async () => {
  await using node = await open()
  await node.call('create', request)
  const choice = {
    ...{ binary: '/runc', root: '', systemdCgroup: false, noPivot: false, noNewKeyring: false, ioUid: 0, ioGid: 0 },
    shim: null,
  }
  const other = { binary: '', joins: { address: 'unix:///other', version: 3, protocol: 'ttrpc' }, options: null }
  expect(() => node.pods.entrance.enter('test', 'pod')).toThrow('it does not run')
  await node.call('start')

  using entry = node.pods.entrance.enter('test', 'pod')
  expect(entry.runtime(choice).shim).toMatchObject({ joins: { address: `unix://${folder}/shim.sock`, version: 3 } })
  expect(entry.runtime({ ...choice, shim: other }).shim).toBe(other)
  entry[Symbol.dispose]()
  await node.call('shutdown')
})

test('a shim that dies ends its sandbox, and its program cleans up', async () => {
  await using node = await open()
  await node.call('create', request)
  await node.call('start')
  const ended = node.call('wait')

  await shim[Symbol.asyncDispose]()

  expect(await ended).toMatchObject({ exitStatus: 137 })
  expect(existsSync(join(folder, 'delete'))).toBe(true)
  expect(await node.call('status')).toMatchObject({ state: 'SANDBOX_NOTREADY' })
  await node.call('shutdown')
  expect(told.at(-1)).toBe('/sandboxes/exit')
})
