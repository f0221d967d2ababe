import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Fault } from '@gantry/model/fault'
import { parseNamespace } from '@gantry/model/namespace'
import { jsonCodec } from '@gantry/store/codec'
import { openStore } from '@gantry/store/store'
import { expect, test } from 'vitest'
import { createSnapshotsKeeper, mountedNumbers } from './collect.ts'
import type { ActivationRow } from './mounts/activations.ts'
import { rowsOf, type Scope } from './rows.ts'
import { parseKey, type Snapshot } from './snapshot.ts'

const SCOPE: Scope = { namespace: parseNamespace('a'), snapshotter: 'overlayfs' }

/** @param beforeStored runs when records change and are not stored yet */
function openKeeper(mountTable = '', beforeStored = () => {}) {
  const folder = mkdtempSync(join(tmpdir(), 'gantry-collect-'))
  const store = openStore(folder)
  const rows = rowsOf(store)
  const [events, discarded, down, reported] = [[] as string[], [] as number[], [] as string[], [] as string[]]
  const busy = new Set<unknown>()
  const fail = (): never => {
    throw new Error('it is busy')
  }
  const table = store.table('activations', jsonCodec<ActivationRow>())
  const activations = {
    *all() {
      for (const { key, value } of table.list()) yield { namespace: key[0] ?? '', name: key[1] ?? '', row: value }
    },
    get: (namespace: string, name: string) => table.get([namespace, name]),
    drop(namespace: string, name: string) {
      const row = table.get([namespace, name])
      table.remove([namespace, name])
      return row
    },
    takeDown: async ({ id }: ActivationRow) => void down.push(busy.has(id) ? fail() : id),
  }
  const keeper = createSnapshotsKeeper({
    rows,
    activations,
    changes: {
      write: (fn) =>
        store.write(() => {
          const result = fn((_, topic) => void events.push(topic))
          if (result !== undefined) beforeStored()
          return result
        }),
    },
    discard: async (_, { id }) => void discarded.push(busy.has(id) ? fail() : id),
    report: (_, name) => void reported.push(name),
    roots: ['/s/overlayfs'],
    mountTable: () => mountTable,
  })
  return {
    rows,
    keeper,
    events,
    discarded,
    down,
    reported,
    busy,
    activate: (name: string, row: Partial<ActivationRow>) =>
      store.write(() => table.put(['a', name], { id: name, active: [], system: [], labels: {}, ...row })),
    put: (...snapshots: Snapshot[]) =>
      store.write(() => {
        for (const each of snapshots) rows.put(SCOPE, each)
      }),
    async [Symbol.asyncDispose]() {
      await store[Symbol.asyncDispose]()
      rmSync(folder, { recursive: true })
    },
  }
}

const snapshot = (id: number, name: string, parent?: string): Snapshot => ({
  id,
  key: parseKey(name, 'key'),
  parent: parent === undefined ? undefined : parseKey(parent, 'parent'),
  kind: 'committed',
  labels: { 'containerd.io/gc.root': '1', other: '2' },
  createdAt: 1,
  updatedAt: 1,
  usage: { size: 7n, inodes: 1n },
})
const thing = (id: string) => ({ namespace: 'a', kind: 'snapshots/overlayfs', id })

test('a snapshot is told with its parent, its labels for collections and its size', async () => {
  await using at = openKeeper()
  await at.put(snapshot(1, 'base'), snapshot(2, 'top', 'base'))

  const nodes = [...at.keeper.nodes()]

  expect(nodes[1]).toMatchObject({
    thing: thing('top'),
    labels: { 'containerd.io/gc.root': '1' },
    refs: [{ kind: 'snapshots/overlayfs', id: 'base' }],
    size: 7n,
  })
  expect(nodes[1]?.labels).not.toHaveProperty('other')
  expect(at.keeper.node(thing('gone'))).toBeUndefined()
})

test('a chain goes from the top, with an event each; one with children stays', async () => {
  await using at = openKeeper()
  await at.put(snapshot(1, 'base'), snapshot(2, 'top', 'base'), snapshot(3, 'kept', 'base'))

  expect(await at.keeper.sweep([thing('top'), thing('base')])).toBe(1)
  expect(await at.keeper.sweep([thing('kept'), thing('base'), thing('gone')])).toBe(2)
  await at.keeper.clean()

  expect([...at.rows.list([])]).toEqual([])
  expect(at.events).toEqual(Array(3).fill('/snapshot/remove'))
  expect(at.discarded).toEqual([2, 3, 1])
})

test('what was to go keeps its folder and its mounts when the disk is too full to write that down', async () => {
  await using at = openKeeper('', () => {
    throw new Fault('resource-exhausted', 'the disk is full')
  })
  await at.put(snapshot(1, 'base'))
  await at.activate('active', {})

  const things = [thing('base'), { namespace: 'a', kind: 'mounts', id: 'active' }]
  await expect(at.keeper.sweep(things)).rejects.toThrow('full')
  await at.keeper.clean()

  expect(at.keeper.node(thing('base'))).toBeDefined()
  expect([at.discarded, at.down]).toEqual([[], []])
})

test('what cannot be taken away keeps nothing else, and goes another time', async () => {
  await using at = openKeeper()
  await at.put(snapshot(1, 'stuck'), snapshot(2, 'free'))
  for (const name of ['stuck', 'free']) await at.activate(name, {})
  const mounts = ['stuck', 'free'].map((id) => ({ namespace: 'a', kind: 'mounts', id }))
  await at.keeper.sweep([thing('stuck'), thing('free'), ...mounts])

  for (const id of [1, 'stuck']) at.busy.add(id)
  await at.keeper.clean()
  expect([at.discarded, at.down, at.reported]).toEqual([[2], ['free'], ['stuck', 'stuck']])

  at.busy.clear()
  await at.keeper.clean()
  expect([at.discarded, at.down]).toEqual([
    [2, 1],
    ['free', 'stuck'],
  ])
})

test('what is mounted is in use', async () => {
  await using at = openKeeper(
    '1 2 0:1 / /r rw - overlay overlay rw,lowerdir=/s/overlayfs/1/fs,upperdir=/s/overlayfs/3/fs,workdir=/s/overlayfs/3/work',
  )
  await at.put(snapshot(1, 'base'), snapshot(2, 'other', 'base'), snapshot(3, 'box', 'base'))
  expect([...at.keeper.nodes()]).toHaveLength(3)

  expect(at.keeper.inUse()).toEqual([thing('base'), thing('box')])
})

test.each([
  ['1 2 0:1 / /r rw - overlay overlay rw,lowerdir=/s/overlayfs/12/fs:/s/overlayfs/3/fs', [12, 3]],
  ['1 2 0:1 / /r rw - overlay overlay rw,lowerdir=/proc/self/fd/7/12/fs:/proc/self/fd/7/3/fs', [12, 3]],
  ['1 2 0:1 / /r rw - overlay overlay rw,lowerdir=/another/overlayfs/12/fs:/another/overlayfs/3/fs', []],
  ['1 2 8:1 /s/overlayfs/5/fs /r ro - ext4 /dev/sda rw', [5]],
  ['1 2 8:1 /@/var/s/overlayfs/5/fs /r ro - btrfs /dev/sda rw', [5]],
  ['1 2 8:1 /other/var/t/overlayfs/5/fs /r ro - ext4 /dev/sda rw', []],
  ['1 2 8:1 /var/s/overlayfs/5/fs /r ro - ext4 /dev/sda rw', [5]],
  ['1 2 8:1 /var/s/overlayfs/5/fs/etc/x /r ro shared:1 - ext4 /dev/sda rw', [5]],
  ['1 2 8:1 /home/5/files /r ro - ext4 /dev/sda rw', []],
  ['1 2 0:4 /12 /proc/x ro - proc proc rw', []],
  ['', []],
])('the mount %s leads to %j', (line, numbers) => {
  expect(mountedNumbers(line, ['/var/s/overlayfs', '/s/overlayfs'])).toEqual(numbers)
})

test('an active mount is told with its lease and labels, and taken down when it is swept', async () => {
  await using at = openKeeper()
  const label = { 'containerd.io/gc.bref.container': 'c' }
  await at.activate('leased', { lease: 'l' })
  await at.activate('labelled', { labels: label })
  const mounts = { namespace: 'a', kind: 'mounts' }

  expect([...at.keeper.nodes()]).toMatchObject([
    { thing: { ...mounts, id: 'labelled' }, labels: label, heldBy: [] },
    { thing: { ...mounts, id: 'leased' }, labels: {}, heldBy: [{ kind: 'leases', id: 'l' }] },
  ])
  expect(
    await at.keeper.sweep([
      { ...mounts, id: 'leased' },
      { ...mounts, id: 'gone' },
    ]),
  ).toBe(1)
  await at.keeper.clean()

  expect(at.down).toEqual(['leased'])
  expect(at.keeper.node({ ...mounts, id: 'leased' })).toBeUndefined()
  expect(at.keeper.node({ ...mounts, id: 'labelled' })).toBeDefined()
})
