import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Kind, Snapshots } from '@gantry/api/containerd/services/snapshots/v1/snapshots_pb'
import { Fault } from '@gantry/model/fault'
import { type Channel, connect } from '@gantry/rpc/client'
import { listen } from '@gantry/rpc/server'
import { bind, type Implementation, unimplemented } from '@gantry/rpc/service'
import { jsonCodec } from '@gantry/store/codec'
import { openStore, type Store } from '@gantry/store/store'
import { expect, test, vi } from 'vitest'
import { startNode, type TestNode } from '../testing/node.ts'
import { driverContract } from './driver.contract.ts'
import type { Driver } from './driver.ts'
import { createProxy, type RemoteRow } from './proxy.ts'

/** On a busy machine. */
const SOON = { timeout: 30_000 }

const signal = new AbortController().signal
const TARGET = 'containerd.io/snapshot.ref'

function proxyTo(channel: Channel, store: Store, report = vi.fn()): Driver & AsyncDisposable {
  const table = store.table('remotes', jsonCodec<RemoteRow>())
  const parts = { name: 'far', address: '/far.sock', remoteName: 'gantry', capabilities: ['rebase'], table }
  return createProxy({ ...parts, channel, write: store.write, report })
}

/** What the remote has of ours: `test/1/key`. */
async function keysIn({ snapshots }: TestNode): Promise<string[]> {
  const keys: string[] = []
  for await (const { info } of snapshots.list({ snapshotter: 'gantry' }, { signal }))
    keys.push(...info.map(({ name }) => name))
  return keys.sort()
}

driverContract('a proxy for the snapshots of another process', async ({ root }) => {
  const stack = new AsyncDisposableStack()
  const node = stack.use(await startNode())
  mkdirSync(root)
  const store = stack.use(openStore(join(root, 'records')))
  const channel = stack.use(connect(node.address))
  return {
    driver: stack.use(proxyTo(channel, store)),
    kept: async () => (await keysIn(node)).map((key) => key.split('/')[1] ?? ''),
    again: () => stack.use(proxyTo(channel, store)),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  }
})

const no = unimplemented('this')
const nothing: Implementation<typeof Snapshots> = {
  prepare: no,
  view: no,
  mounts: no,
  commit: no,
  remove: no,
  stat: no,
  update: no,
  list: no,
  usage: no,
  cleanup: no,
}

function temporary() {
  const path = mkdtempSync(join(tmpdir(), 'gantry-proxy-'))
  return { path, [Symbol.asyncDispose]: async () => rmSync(path, { recursive: true }) }
}

/** A remote that is played. */
async function playing(base: string, part: Partial<Implementation<typeof Snapshots>>) {
  const stack = new AsyncDisposableStack()
  mkdirSync(base, { recursive: true })
  const address = join(base, 'remote.sock')
  stack.use(
    await listen({ address, bindings: [bind(Snapshots, { ...nothing, ...part })], log: { error() {}, debug() {} } }),
  )
  const store = stack.use(openStore(join(base, 'records')))
  const report = vi.fn()
  return {
    driver: stack.use(proxyTo(stack.use(connect(address)), store, report)),
    report,
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  }
}

const stackOf = (id: number, labels = {}) => ({ kind: 'active' as const, id, parents: [], labels })
const title = { namespace: 'test', key: 'box' }

test('the remote gets the name, the namespace and the labels for drivers; its errors come back as they are', async () => {
  await using folder = temporary()
  const asked: unknown[] = []
  await using remote = await playing(folder.path, {
    async prepare({ snapshotter, key, parent, labels }, { namespace }) {
      asked.push({ snapshotter, key, parent, labels, namespace })
      throw new Fault('resource-exhausted', 'No room left')
    },
  })

  const creating = remote.driver.create(stackOf(7, { 'containerd.io/snapshot/x': 'y' }), title, signal)

  await expect(creating).rejects.toThrow(
    expect.objectContaining({ code: 'resource-exhausted', message: 'No room left' }),
  )
  expect(asked).toEqual([
    {
      snapshotter: 'gantry',
      key: 'test/7/box',
      parent: '',
      labels: { 'containerd.io/snapshot/x': 'y', 'containerd.io/gc.root': 'proxy' },
      namespace: 'test',
    },
  ])
})

/** A remote that has the layer `wanted` already, as one that fetches layers when they are read. */
const holding = (removed: string[]): Partial<Implementation<typeof Snapshots>> => ({
  async prepare() {
    throw new Fault('already-exists', 'It is here')
  },
  async *list() {
    const labels = { [TARGET]: 'wanted' }
    yield {
      info: [
        { name: 'open', kind: Kind.ACTIVE, labels },
        { name: 'other parent', parent: 'p', kind: Kind.COMMITTED, labels },
        { name: 'its own name', kind: Kind.COMMITTED, labels },
      ],
    }
  },
  async usage({ key }) {
    return { size: BigInt(key.length), inodes: 1n }
  },
  async remove({ key }) {
    removed.push(key)
    return {}
  },
})

test('a layer that the remote has already is found by its label, and goes with the last who has it', async () => {
  await using folder = temporary()
  const removed: string[] = []
  await using remote = await playing(folder.path, holding(removed))
  const { driver } = remote
  const labels = { [TARGET]: 'wanted' }

  expect(await driver.create(stackOf(1, labels), title, signal)).toEqual({ found: true })
  expect(await driver.create(stackOf(2, labels), title, signal)).toEqual({ found: true })
  expect(await driver.usage(1, signal)).toMatchObject({ size: 12n })

  await driver.discard(1)
  await vi.waitFor(() => expect(driver.usage(1, signal)).rejects.toThrow('gone from the remote'), SOON)
  expect(removed).toEqual([])
  await driver.discard(2)
  await vi.waitFor(() => expect(removed).toEqual(['its own name']), SOON)
})

test('an answer that something is there, without that it was asked for, is no layer', async () => {
  await using folder = temporary()
  await using remote = await playing(folder.path, holding([]))

  const unasked = remote.driver.create(stackOf(1), title, signal)
  await expect(unasked).rejects.toThrow(expect.objectContaining({ code: 'unknown' }))
  const missing = remote.driver.create(stackOf(2, { [TARGET]: 'else' }), title, signal)
  await expect(missing).rejects.toThrow(expect.objectContaining({ code: 'not-found' }))
})

test('what cannot be removed now is reported once and goes later', async () => {
  await using folder = temporary()
  let isDown = true
  const removed: string[] = []
  await using remote = await playing(folder.path, {
    prepare: async () => ({ mounts: [] }),
    async remove({ key }) {
      if (isDown) throw new Fault('unavailable', 'Not now')
      removed.push(key)
      return {}
    },
  })
  const { driver, report } = remote
  await driver.create(stackOf(1), title, signal)
  await driver.create(stackOf(2), { ...title, key: 'other' }, signal)

  await driver.discard(1)
  await driver.cleanup(signal)
  isDown = false
  await driver.discard(2)
  await driver.cleanup(signal)

  expect(removed.sort()).toEqual(['test/1/box', 'test/2/other'])
  expect(report).toHaveBeenCalledOnce()
})
