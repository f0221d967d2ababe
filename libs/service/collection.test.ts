import type { Table } from '@gantry/store/table'
import { expect, test } from 'vitest'
import { createBarrier } from './barrier.ts'
import { localParty, type Node, nodeOf } from './collection.ts'

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
