import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { openOutbox } from './outbox.ts'
import { openStore } from './store.ts'

const base = mkdtempSync(join(tmpdir(), 'gantry-outbox-'))
afterAll(() => rmSync(base, { recursive: true }))
const event = (n: number) => ({ namespace: 'default', topic: '/test/x', envelope: new Uint8Array([0, n]) })

test('events wait in order, numbered, and go once they are delivered', async () => {
  await using store = openStore(join(base, 'order'))
  const outbox = openOutbox(store)

  await store.write(() => [1, 2, 3].map((n) => outbox.append(event(n))))
  const [first, second] = outbox.pending(2)
  await outbox.removeThrough(2)

  expect(first).toEqual({ ...event(1), seq: 1, id: expect.stringMatching(/^[0-9a-f-]{36}:1$/) })
  expect(second).toMatchObject({ ...event(2), id: first?.id.replace(/1$/, '2') })
  expect(outbox.pending(9).map(({ seq }) => seq)).toEqual([3])
  expect(outbox.pending(9, 3)).toEqual([])
  expect([outbox.behind(0), outbox.behind(2), outbox.behind(3)]).toEqual([1, 1, 0])
})

test('an event of a write that fails is never sent', async () => {
  await using store = openStore(join(base, 'failed'))
  const outbox = openOutbox(store)

  const failing = store.write(() => {
    outbox.append(event(1))
    throw new Error('no')
  })

  await expect(failing).rejects.toThrow('no')
  expect(outbox.pending(9)).toEqual([])
})

test('numbers are never given out again, also after a restart with nothing left', async () => {
  const folder = join(base, 'restart')
  const append = async () => {
    await using store = openStore(folder)
    const outbox = openOutbox(store)
    await store.write(() => outbox.append(event(1)))
    const ids = outbox.pending(9).map(({ id }) => id)
    await outbox.removeThrough(9)
    return ids
  }

  const first = await append()
  const second = await append()

  expect(second).toEqual([first[0]?.replace(/1$/, '2')])
})
