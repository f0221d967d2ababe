import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Fault } from '@gantry/model/fault'
import { openOutbox } from '@gantry/store/outbox'
import { openStore } from '@gantry/store/store'
import { pino } from 'pino'
import { expect, test, vi } from 'vitest'
import { createPublisher } from './publisher.ts'

test('a write in the first moment of a process waits until the bus is reached', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'gantry-publisher-'))
  await using store = openStore(folder)
  const outbox = openOutbox(store)
  const connected = Promise.withResolvers<void>()
  const publish = vi.fn(async () => undefined)
  const bus = { ready: false, whenReady: () => connected.promise, publish }
  const publisher = createPublisher({ outbox, bus, log: pino({ level: 'silent' }) })
  const seq = await store.write(() => outbox.append({ namespace: 'n', topic: '/a', envelope: new Uint8Array() }))

  const delivered = publisher.delivered(seq).then(() => publish.mock.calls.length)
  setTimeout(connected.resolve, 100)

  expect(await delivered).toBe(1)
  await publisher.close()
  rmSync(folder, { recursive: true })
})

test('a bus that hangs holds up the writes of one moment, not those after it', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'gantry-publisher-'))
  await using store = openStore(folder)
  const outbox = openOutbox(store)
  const append = (topic: string) =>
    store.write(() => outbox.append({ namespace: 'n', topic, envelope: new Uint8Array() }))
  const hanging = Promise.withResolvers<void>()
  const publish = vi.fn(() => hanging.promise)
  const bus = { ready: true, whenReady: async () => undefined, publish }
  const publisher = createPublisher({ outbox, bus, log: pino({ level: 'silent' }) })
  const timed = async (seq: number): Promise<number> => {
    const began = performance.now()
    await publisher.delivered(seq)
    return performance.now() - began
  }

  const together = await Promise.all([timed(await append('/a')), timed(await append('/b'))])
  const later = await timed(await append('/c'))
  hanging.resolve()
  await expect.poll(() => publisher.behind()).toBe(0)

  expect(Math.max(...together)).toBeLessThan(4000) // both of them wait for the same two seconds
  expect(Math.min(...together)).toBeGreaterThan(1500)
  expect(later).toBeLessThan(1000)
  expect(publish).toHaveBeenCalledTimes(3)
  await publisher.close()
  rmSync(folder, { recursive: true })
})

test('why events wait is said once, and again when it comes back', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'gantry-publisher-'))
  await using store = openStore(folder)
  const outbox = openOutbox(store)
  const lines: string[] = []
  const log = pino({}, { write: (line: string) => void lines.push(JSON.parse(line).err.message) })
  let failures = 3
  const publish = async () => {
    if (failures-- > 0) throw new Fault('unavailable', `no room, ${failures}`)
  }
  const publisher = createPublisher({ outbox, bus: { ready: true, whenReady: async () => undefined, publish }, log })
  const deliver = async () => {
    await store.write(() => outbox.append({ namespace: 'n', topic: '/a', envelope: new Uint8Array() }))
    void publisher.delivered(1)
    await expect.poll(() => publisher.behind(), { timeout: 10_000 }).toBe(0)
  }

  await deliver()
  failures = 2
  await deliver()

  expect(lines).toEqual(['no room, 2', 'no room, 1'])
  await publisher.close()
  rmSync(folder, { recursive: true })
})
