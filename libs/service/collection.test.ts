import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Collection } from '@gantry/api/gantry/collection/v1/collection_pb'
import { clientOf, connect } from '@gantry/rpc/client'
import { listen } from '@gantry/rpc/server'
import { bind } from '@gantry/rpc/service'
import type { Table } from '@gantry/store/table'
import { pino } from 'pino'
import { expect, test } from 'vitest'
import { createBarrier } from './barrier.ts'
import { collectionService, localParty, type Node, nodeOf, remoteParty } from './collection.ts'

test('a scan sees what was written right before it and is not on disk yet', async () => {
  const disk = createSlowDisk()
  await disk.commit()
  const barrier = createBarrier(disk)
  const rows = barrier.watch(disk.table, ([id = '']) => ({ namespace: 'a', kind: 'leases', id }))
  const party = localParty(barrier, { ...NOTHING, nodes: disk.nodes })
  const old = barrier.changes.write(() => rows.put(['old'], ''))
  await disk.commit()
  await old

  const changes = [
    barrier.changes.write(() => rows.remove(['old'])),
    barrier.changes.write(() => rows.put(['new'], '')),
  ]
  const scanned = Array.fromAsync(party.scan('t', AbortSignal.timeout(20_000)))
  await disk.commit()

  expect((await scanned).flat().map(({ thing }) => thing.id)).toEqual(['new'])
  await Promise.all(changes)
})

test('what is written while a scan runs is noted', async () => {
  const disk = createSlowDisk()
  const barrier = createBarrier(disk)
  const rows = barrier.watch(disk.table, ([id = '']) => ({ namespace: 'a', kind: 'leases', id }))
  const begun = barrier.begin('t')
  await disk.commit()
  await begun

  const written = barrier.changes.write(() => rows.put(['new'], ''))
  const paused = barrier.pause('t', 20_000)
  await disk.commit()

  expect(await paused).toEqual([{ namespace: 'a', kind: 'leases', id: 'new' }])
  await written
  barrier.resume('t', false)
})

test('a write that does not wait for the log does not either while collections are possible', async () => {
  const asked: unknown[] = []
  const barrier = createBarrier({
    async write(fn, until) {
      asked.push(until)
      return fn(() => undefined)
    },
  })

  await barrier.changes.write(() => undefined, 'stored')

  expect(asked).toEqual(['stored'])
})

test('a scan over a socket tells all that one in the process tells', async () => {
  const thing = (kind: string, id: string, namespace = 'a') => ({ namespace, kind, id })
  const refs = [{ kind: 'content', id: 'x' }]
  const nodes = [
    nodeOf(thing('content', 'x'), { labels: { other: 'l' }, size: 2n ** 40n }),
    nodeOf(thing('content', 'y'), { labels: {} }),
    nodeOf(thing('content', 'x', 'b'), { labels: {}, size: 7n }),
    nodeOf(thing('snapshots/o', 's'), { labels: {}, refs }),
    nodeOf(thing('snapshots/o', 'x'), { labels: {}, size: 9n }),
    nodeOf(thing('content', 'l'), { labels: { 'containerd.io/gc.root': '1' }, size: 1n }),
    nodeOf(thing('content', 'h'), { labels: {}, heldBy: refs }),
    nodeOf(thing('ingests', 'u'), { labels: {}, root: 'upload', rootUntilMs: 5 }),
    nodeOf(thing('content', 'z'), { labels: {}, size: 3n }),
  ]
  const party = localParty(createBarrier({ write: async (fn) => fn(() => undefined) }), {
    ...NOTHING,
    nodes: () => nodes,
  })
  const dir = mkdtempSync(join(tmpdir(), 'gc-'))
  try {
    const [address, log] = [join(dir, 's'), pino({ level: 'silent' })]
    await using _ = await listen({ address, bindings: [bind(Collection, collectionService(party))], log })
    await using channel = connect(address)
    const remote = remoteParty(clientOf(Collection, channel))

    const told = (await Array.fromAsync(remote.scan('t', AbortSignal.timeout(20_000)))).flat()

    const inOrder = (all: readonly Node[]) => all.toSorted((a, b) => nameOf(a).localeCompare(nameOf(b)))
    expect(inOrder(told)).toEqual(inOrder(nodes))
  } finally {
    rmSync(dir, { recursive: true })
  }
})

const nameOf = ({ thing: { namespace, kind, id } }: Node): string => `${namespace}/${kind}/${id}`

const NOTHING = { node: () => undefined, inUse: () => [], sweep: async () => 0, clean: async () => undefined }

/** Reads see what is committed, and nothing is before `commit` is called. */
function createSlowDisk() {
  const committed = new Set<string>()
  const staged: (() => void)[] = []
  const table = {
    put: ([id = '']: readonly string[]) => void staged.push(() => committed.add(id)),
    remove: ([id = '']: readonly string[]) => void staged.push(() => committed.delete(id)),
  } as unknown as Table<string>
  return {
    table,
    async write<T>(fn: (emit: () => void) => T): Promise<T> {
      const result = fn(() => undefined)
      await new Promise<void>((resolve) => staged.push(resolve))
      return result
    },
    async commit(): Promise<void> {
      await new Promise(setImmediate)
      for (const apply of staged.splice(0)) apply()
    },
    *nodes(): Generator<Node> {
      for (const id of committed) yield nodeOf({ namespace: 'a', kind: 'leases', id }, { labels: {} })
    },
  }
}
