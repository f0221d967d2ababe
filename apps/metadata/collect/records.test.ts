import { create } from '@bufbuild/protobuf'
import { SandboxSchema } from '@gantry/api/containerd/types/sandbox_pb'
import { createBarrier } from '@gantry/service/barrier'
import { expect, test } from 'vitest'
import { openTestStore } from '../test-store.ts'
import { createRecordsKeeper, watchRows } from './records.ts'

test('a sandbox stays by itself, with what its labels refer to, and a change of it is noted', async () => {
  await using store = await openTestStore()
  const changes = { write: store.changes.write }
  const barrier = createBarrier(changes)
  const rows = watchRows(store.rows, barrier)
  const keeper = createRecordsKeeper({ rows: store.rows, changes })
  const labels = { 'containerd.io/gc.ref.content': 'sha256:1', other: '2' }
  const thing = { namespace: 'a', kind: 'sandboxes', id: 's' }
  await barrier.begin('t')

  await barrier.changes.write(() => rows.sandboxes.put(['a', 's'], create(SandboxSchema, { sandboxId: 's', labels })))

  const told = { thing, labels: { 'containerd.io/gc.ref.content': 'sha256:1' } }
  expect([...keeper.nodes()]).toMatchObject([told])
  expect(keeper.node(thing)).toMatchObject(told)
  expect(await barrier.pause('t', 1000)).toEqual([thing])
  barrier.resume('t', false)
})
