import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseNamespace } from '@gantry/model/namespace'
import { openStore } from '@gantry/store/store'
import { expect, test } from 'vitest'
import type { Driver } from './drivers/driver.ts'
import { rowsOf } from './rows.ts'
import { parseKey } from './snapshot.ts'
import { createSnapshots } from './snapshots.ts'

const call = { lease: undefined, signal: new AbortController().signal }
const scope = { namespace: parseNamespace('test'), snapshotter: 'slow' }
const key = (text: string) => parseKey(text, 'key')
const opening = (name: string, parent?: string) => ({
  ...{ kind: 'active' as const, key: key(name), labels: {} },
  parent: parent === undefined ? undefined : key(parent),
})
const committing = (from: string, to: string, parent?: string) => ({
  ...{ key: key(from), name: key(to), labels: {} },
  parent: parent === undefined ? undefined : key(parent),
})
const fault = (code: string) => expect.objectContaining({ name: 'Fault', code })

/** Snapshots with a driver that keeps nothing, and waits where a test wants it to. */
async function open() {
  const folder = mkdtempSync(join(tmpdir(), 'gantry-snapshots-'))
  const store = openStore(folder)
  const discarded: number[] = []
  const waits = new Map<'create' | 'commit' | 'usage', { reached: () => void; go: Promise<void> }>()
  const pass = async (at: 'create' | 'commit' | 'usage', needs: readonly number[] = []): Promise<void> => {
    const wait = waits.get(at)
    waits.delete(at)
    wait?.reached()
    await wait?.go
    if (discarded.some((id) => needs.includes(id))) throw new Error('Its folder is not there')
  }
  const driver: Driver = {
    ...{ name: 'slow', exports: {}, capabilities: [] },
    async create({ parents }) {
      await pass('create', parents)
      return { made: [] }
    },
    commit: () => pass('commit'),
    mounts: async ({ id, parents }) => [{ type: 'bind', source: [id, ...parents].join(), options: [] }],
    relabel: async () => undefined,
    async usage(id) {
      await pass('usage', [id])
      return { size: BigInt(id), inodes: 1n }
    },
    discard: async (id) => void discarded.push(id),
    cleanup: async () => undefined,
    owns: () => false,
    recover: async () => 0,
    staging: {
      stage: async () => {
        throw new Error('The disk is full')
      },
      layer: () => '',
    },
  }
  const snapshots = await createSnapshots({
    rows: rowsOf(store),
    changes: { write: (fn) => store.write(() => fn(() => undefined)) },
    drivers: [driver],
    leases: { hold: async () => undefined, letGo: async () => undefined },
    clock: () => 1,
  })
  return {
    snapshots,
    discarded,
    /** Holds the next call of the driver up. */
    hold(at: 'create' | 'commit' | 'usage') {
      const [reached, go] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
      waits.set(at, { reached: reached.resolve, go: go.promise })
      return { reached: reached.promise, go: go.resolve }
    },
    async layer(name: string) {
      await snapshots.open(scope, opening(`${name} key`), call)
      await snapshots.commit(scope, committing(`${name} key`, name), call)
    },
    async [Symbol.asyncDispose]() {
      await store[Symbol.asyncDispose]()
      rmSync(folder, { recursive: true })
    },
  }
}

test('a key that stands for another snapshot by the end of its commit is left as it is', async () => {
  await using node = await open()
  const { snapshots } = node
  await snapshots.open(scope, opening('box'), call)
  const held = node.hold('commit')
  const done = snapshots.commit(scope, committing('box', 'done'), call)
  await held.reached
  await snapshots.remove(scope, key('box'), call)
  await snapshots.open(scope, opening('box'), call)

  held.go()

  await expect(done).rejects.toThrow(fault('not-found'))
  expect(Array.from(snapshots.list(scope), ({ key, kind, id }) => [key, kind, id])).toEqual([['box', 'active', 2]])
})

test('of two who commit the same key one is refused, before the driver hears of it', async () => {
  await using node = await open()
  const { snapshots } = node
  await snapshots.open(scope, opening('box'), call)
  const held = node.hold('commit')
  const first = snapshots.commit(scope, committing('box', 'one'), call)
  await held.reached

  await expect(snapshots.commit(scope, committing('box', 'two'), call)).rejects.toThrow(fault('failed-precondition'))

  held.go()
  await first
  expect(Array.from(snapshots.list(scope), ({ key }) => key)).toEqual(['one'])
})

test('a snapshot does not come to stand on another parent than it was made on', async () => {
  await using node = await open()
  const { snapshots } = node
  await node.layer('base')
  const held = node.hold('create')
  const opened = snapshots.open(scope, opening('box', 'base'), call)
  await held.reached
  await snapshots.remove(scope, key('base'), call)
  await node.layer('base')

  held.go()

  await expect(opened).rejects.toThrow(fault('not-found'))
  expect(Array.from(snapshots.list(scope), ({ key }) => key)).toEqual(['base'])
  expect(node.discarded).toEqual([1, 2])
  expect(snapshots.making()).toEqual(new Set())
})

test('a snapshot is not put upon another parent than the driver was told of', async () => {
  await using node = await open()
  const { snapshots } = node
  await node.layer('base')
  await snapshots.open(scope, opening('box'), call)
  const held = node.hold('commit')
  const done = snapshots.commit(scope, committing('box', 'done', 'base'), call)
  await held.reached
  await snapshots.remove(scope, key('base'), call)
  await node.layer('base')

  held.go()

  await expect(done).rejects.toThrow(fault('not-found'))
  expect(snapshots.stat(scope, key('box')).kind).toBe('active')
})

test.each(['measured', 'committed'] as const)(
  'a snapshot that is removed while it is %s is told to be gone',
  async (what) => {
    await using node = await open()
    const { snapshots } = node
    await snapshots.open(scope, opening('box'), call)
    const held = node.hold('usage')
    const measured =
      what === 'measured'
        ? snapshots.usage(scope, key('box'), call.signal)
        : snapshots.commit(scope, committing('box', 'done'), call)
    await held.reached
    await snapshots.remove(scope, key('box'), call)

    held.go()

    await expect(measured).rejects.toThrow(fault('not-found'))
  },
)

test('a folder that could not be staged is taken away', async () => {
  await using node = await open()

  await expect(node.snapshots.stage(scope)).rejects.toThrow('The disk is full')

  expect(node.discarded).toEqual([1])
  expect(node.snapshots.making()).toEqual(new Set())
})
