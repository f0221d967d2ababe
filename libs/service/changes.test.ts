import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fromBinary } from '@bufbuild/protobuf'
import { NamespaceCreateSchema } from '@gantry/api/containerd/events/namespace_pb'
import { EnvelopeSchema } from '@gantry/api/containerd/types/event_pb'
import { jsonCodec } from '@gantry/store/codec'
import { openOutbox } from '@gantry/store/outbox'
import { openStore } from '@gantry/store/store'
import { pino } from 'pino'
import { afterAll, describe, expect, test } from 'vitest'
import { type Bus, connectBus } from './bus.ts'
import { type Changes, openChanges } from './changes.ts'
import { noServer, startNats } from './nats-server.fixture.ts'

const log = pino({ level: 'silent' })
const base = mkdtempSync(join(tmpdir(), 'gantry-changes-'))
afterAll(() => rmSync(base, { recursive: true }))
let folders = 0
const newFolder = (): string => join(base, String(++folders))

/** Announces that namespace `n<number>` was made. */
const announce = (changes: Changes, n: number): Promise<void> =>
  changes.write((emit) => emit(`n${n}`, '/namespaces/create', NamespaceCreateSchema, { name: `n${n}` }))

async function take(bus: Bus, count: number): Promise<string[]> {
  const names: string[] = []
  for await (const { envelope } of bus.read({ from: 1, signal: AbortSignal.timeout(20_000) })) {
    const { namespace, event } = fromBinary(EnvelopeSchema, envelope)
    names.push(namespace)
    if (event) expect(fromBinary(NamespaceCreateSchema, event.value).name).toBe(namespace)
    if (names.length === count) break
  }
  return names
}

const upTo = (count: number): string[] => Array.from({ length: count }, (_, i) => `n${i + 1}`)

describe.skipIf(noServer)(`changes${noServer ? ` (skipped: ${noServer})` : ''}`, () => {
  test('a write resolves when the log has its events', async () => {
    await using nats = await startNats()
    await using store = openStore(newFolder())
    await using bus = connectBus(nats.config, log)
    await bus.whenReady(AbortSignal.timeout(5000))
    await using changes = openChanges({ store, bus, log })

    await announce(changes, 1)
    const reader = bus.read({ from: 1, signal: AbortSignal.timeout(1000) })[Symbol.asyncIterator]()
    const { value } = await reader.next()
    await reader.return?.()

    expect(fromBinary(EnvelopeSchema, value.envelope)).toMatchObject({
      namespace: 'n1',
      topic: '/namespaces/create',
      event: { typeUrl: 'containerd.events.NamespaceCreate' },
    })
    await expect.poll(() => openOutbox(store).pending(1)).toEqual([])
  })

  test('while the bus is down writes do not wait, and their events follow in order', async () => {
    await using nats = await startNats()
    await nats.kill()
    await using store = openStore(newFolder())
    await using bus = connectBus(nats.config, log)
    await using changes = openChanges({ store, bus, log })

    const started = performance.now()
    for (let n = 1; n <= 20; n++) await announce(changes, n)
    const took = performance.now() - started
    await nats.start()

    expect(took).toBeLessThan(2500) // each would wait two seconds
    expect(await take(bus, 20)).toEqual(upTo(20))
  })

  test('what a process did not get out before it ended follows when it starts again', async () => {
    await using nats = await startNats()
    await nats.kill()
    const folder = newFolder()
    {
      await using store = openStore(folder)
      await using bus = connectBus(nats.config, log)
      await using changes = openChanges({ store, bus, log })
      for (let n = 1; n <= 3; n++) await announce(changes, n)
    }
    await nats.start()
    await using store = openStore(folder)
    await using bus = connectBus(nats.config, log)
    await using changes = openChanges({ store, bus, log })

    await announce(changes, 4)

    expect(await take(bus, 4)).toEqual(upTo(4))
  })

  test('an event that was sent, but not yet forgotten when the process was killed, is logged once', async () => {
    await using nats = await startNats()
    await using store = openStore(newFolder())
    await using bus = connectBus(nats.config, log)
    const outbox = openOutbox(store)
    const { namespace, topic, envelope } = {
      namespace: 'n1',
      topic: '/namespaces/create',
      envelope: new Uint8Array([18, 2, 110, 49]),
    }
    await store.write(() => outbox.append({ namespace, topic, envelope }))
    for (const { seq: _, ...event } of outbox.pending(1)) await bus.publish(event, AbortSignal.timeout(5000))

    await using changes = openChanges({ store, bus, log })
    await announce(changes, 2)

    expect(await take(bus, 2)).toEqual(upTo(2))
  })

  test('2,000 events of concurrent writes arrive once and in order while the server is killed', async () => {
    await using nats = await startNats()
    await using store = openStore(newFolder())
    const counter = store.table('counter', jsonCodec<number>())
    await using bus = connectBus(nats.config, log)
    await using changes = openChanges({ store, bus, log })
    const add = () =>
      changes.write((emit) => {
        const n = (counter.get(['n']) ?? 0) + 1
        counter.put(['n'], n)
        emit(`n${n}`, '/namespaces/create', NamespaceCreateSchema, { name: `n${n}` })
      })

    const seen = take(bus, 2000)
    const writing = Promise.all(
      Array.from({ length: 10 }, async () => {
        for (let i = 0; i < 200; i++) await add()
      }),
    )
    for (let round = 0; round < 3; round++) {
      await sleep(120)
      await nats.kill()
      await sleep(120)
      await nats.start()
    }
    await writing

    expect(await seen).toEqual(upTo(2000))
  }, 30_000)

  test('an event that can never be published does not hold up the others', async () => {
    await using nats = await startNats()
    await using store = openStore(newFolder())
    await using bus = connectBus(nats.config, log)
    await bus.whenReady(AbortSignal.timeout(5000))
    const outbox = openOutbox(store)
    await store.write(() => {
      outbox.append({ namespace: 'n0', topic: 'not a topic', envelope: new Uint8Array() })
    })
    await using changes = openChanges({ store, bus, log })

    await announce(changes, 1)

    expect(await take(bus, 1)).toEqual(['n1'])
  })
})

test('a bad topic or an event past the limit fails the write, and nothing is stored', async () => {
  await using store = openStore(newFolder())
  const table = store.table('things', jsonCodec<number>())
  await using bus = connectBus(
    {
      url: undefined,
      urlFile: '/nowhere',
      tokenFile: undefined,
      maxAgeH: 1,
      maxBytes: 1,
      instance: { app: 'content', address: '' },
    },
    log,
  )
  await using changes = openChanges({ store, bus, log })
  const write = (topic: string, size: number) =>
    changes.write((emit) => {
      table.put(['a'], 1)
      emit('default', topic, NamespaceCreateSchema, { name: 'x'.repeat(size) })
    })

  await expect(write('/bad topic', 1)).rejects.toMatchObject({ code: 'invalid-argument' })
  await expect(write('/good', 1_100_000)).rejects.toMatchObject({ code: 'resource-exhausted' })
  expect(table.has(['a'])).toBe(false)
})
