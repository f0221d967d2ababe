import { rm, writeFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { Fault } from '@gantry/model/fault'
import { connect, nanos } from 'nats'
import { pino } from 'pino'
import { describe, expect, test } from 'vitest'
import { type Bus, connectBus, type LoggedEvent, type LogStart } from './bus.ts'
import { type NatsFixture, noServer, startNats } from './nats-server.fixture.ts'
import { STREAM } from './stream.ts'

const log = pino({ level: 'silent' })
const forever = new AbortController().signal
const event = (n: number, sender = 'sender') => ({
  namespace: 'default',
  topic: '/test/happened',
  id: `${sender}:${n}`,
  envelope: Buffer.from(String(n)),
})
const numberOf = ({ envelope }: LoggedEvent): number => Number(Buffer.from(envelope).toString())

const connectRaw = (nats: NatsFixture) => connect({ servers: nats.config.url?.split('@')[1] ?? '', token: 'secret' })

/** Reads `count` events. */
async function take(bus: Bus, from: LogStart, count: number): Promise<LoggedEvent[]> {
  const events: LoggedEvent[] = []
  const stop = new AbortController()
  for await (const event of bus.read({ from, signal: stop.signal })) if (events.push(event) === count) break
  return events
}

/** Publishes 1..count, each until it is confirmed. */
async function publishAll(bus: Bus, count: number): Promise<void> {
  for (let n = 1; n <= count; n++)
    for (;;) {
      try {
        await bus.publish(event(n), forever)
        break
      } catch {
        await sleep(5)
      }
    }
}

/** Hears what is new until it is stopped. */
function listen(bus: Bus, reader: string) {
  const controller = new AbortController()
  const ids: string[] = []
  const over = (async () => {
    for await (const { id } of bus.read({ from: 'new', reader, signal: controller.signal })) ids.push(id)
  })()
  return {
    ids,
    stop(reason?: Fault): Promise<void> {
      controller.abort(reason)
      return over
    },
  }
}

let marks = 0

/** Publishes until something that was published here is heard. */
async function mark(bus: Bus, heard: readonly string[]): Promise<void> {
  const from = marks
  while (!heard.some((id) => Number(/^mark-(\d+)$/.exec(id)?.[1]) > from)) {
    await bus.publish({ ...event(0), id: `mark-${++marks}` }, forever)
    await sleep(20)
  }
}

/** Waits until the server knows that everything in the log was handed out to the only reader of a name. */
async function confirmed(nats: NatsFixture): Promise<void> {
  const raw = await connectRaw(nats)
  const manager = await raw.jetstreamManager()
  for (;;) {
    const [reader] = await manager.consumers.list(STREAM).next()
    const { state } = await manager.streams.info(STREAM)
    if (reader?.ack_floor.stream_seq === state.last_seq) break
    await sleep(10)
  }
  await raw.close()
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, i) => i + 1)

describe.skipIf(noServer)(`the event bus${noServer ? ` (skipped: ${noServer})` : ''}`, () => {
  test('what is published is read back in order, from a sequence and from a time', async () => {
    await using nats = await startNats()
    await using bus = connectBus(nats.config, log)

    await publishAll(bus, 3)
    await sleep(20)
    const later = new Date()
    await bus.publish(event(4), forever)

    const all = await take(bus, 1, 4)
    expect(all.map(numberOf)).toEqual([1, 2, 3, 4])
    expect(all.map(({ sequence, id }) => [sequence, id])).toEqual(upTo(4).map((n) => [n, `sender:${n}`]))
    expect((await take(bus, 3, 2)).map(numberOf)).toEqual([3, 4])
    expect((await take(bus, later, 1)).map(numberOf)).toEqual([4])
  })

  test.each([
    ['is killed', undefined],
    ['stops', new Fault('unavailable', 'The service is stopping')],
  ])('a reader whose process %s goes on in the next one where it was, once', async (_, reason) => {
    await using nats = await startNats()
    await using bus = connectBus(nats.config, log)
    const first = connectBus(nats.config, log)
    await first.whenReady(forever)
    const before = listen(first, 'a')
    await mark(bus, before.ids)
    await confirmed(nats)

    if (reason) await before.stop(reason)
    await first[Symbol.asyncDispose]()
    await before.stop().catch(() => {}) // it says that its bus is closed
    await bus.publish({ ...event(0), id: 'meanwhile' }, forever)
    await using second = connectBus(nats.config, log)
    await second.whenReady(forever)
    const heard: Record<string, string[]> = {}
    for (const [name, reader] of [
      ['another', 'b'],
      ['the same', 'a'],
      ['the same again', 'a'],
    ] as const) {
      const { ids, stop } = listen(second, reader)
      await mark(bus, ids)
      await stop()
      heard[name] = ids.filter((id) => !id.startsWith('mark'))
    }

    expect(before.ids).not.toContain('meanwhile')
    expect(heard).toEqual({ another: [], 'the same': ['meanwhile'], 'the same again': [] })
  })

  test('a reader of what is new sees nothing older, and stops at once when told', async () => {
    await using nats = await startNats()
    await using bus = connectBus(nats.config, log)
    await bus.publish(event(1), forever)
    const stop = new AbortController()
    const events = bus.read({ from: 'new', signal: stop.signal })[Symbol.asyncIterator]()

    const first = events.next()
    let seen: Awaited<typeof first> | undefined
    for (let n = 2; seen === undefined; n++) {
      await bus.publish(event(n), forever) // until reading has begun
      seen = await Promise.race([first, sleep(50, undefined)])
    }
    const waiting = events.next()
    await sleep(50)
    const asked = performance.now()
    stop.abort()
    let end = await waiting
    while (!end.done) end = await events.next() // what came meanwhile

    expect(seen.done ? 0 : numberOf(seen.value)).toBeGreaterThan(1)
    expect(end.done).toBe(true)
    expect(performance.now() - asked).toBeLessThan(5000) // it would wait for events for ever
  })

  test('a sequence the log has not reached is refused', async () => {
    await using nats = await startNats()
    await using bus = connectBus(nats.config, log)
    await bus.publish(event(1), forever)

    await expect(take(bus, 3, 1)).rejects.toMatchObject({ code: 'out-of-range' })
  })

  test('a reader that is too slow for the limits of the log is told what it missed, and goes on from there', async () => {
    await using nats = await startNats()
    await using bus = connectBus({ ...nats.config, maxBytes: 100_000 }, log)
    const large = (n: number) => ({ ...event(n), envelope: Buffer.from(String(n).padEnd(1000)) })
    await bus.publish(large(1), forever)
    const slow = bus.read({ from: 1, signal: forever })[Symbol.asyncIterator]()
    await slow.next()

    for (let n = 2; n <= 600; n++) await bus.publish(large(n), forever) // it has asked for less than half of these
    let told: unknown
    while (told === undefined)
      await slow.next().catch((error: unknown) => {
        told = error
      })

    const [, gone, next] =
      /^Events (\d+) to \d+ are gone: .*; go on from (\d+)$/.exec(String(Object(told).message)) ?? []
    expect(told).toMatchObject({ code: 'data-loss' })
    expect((await take(bus, Number(next), 600 - Number(next) + 1)).map(numberOf).at(-1)).toBe(600)
    await expect(take(bus, Number(gone), 1)).rejects.toMatchObject({ code: 'data-loss' })
    expect((await take(bus, 0, 1)).map(numberOf)[0]).toBeGreaterThan(Number(gone)) // 0 and 1 are the first there is
  }, 60_000)

  test('the same id is stored once, and a double that got in after all is dropped by readers', async () => {
    await using nats = await startNats()
    await using bus = connectBus(nats.config, log)
    await publishAll(bus, 2)
    await bus.publish(event(2), forever)
    const raw = await connectRaw(nats)
    await (await raw.jetstreamManager()).streams.update('GANTRY_EVENTS', { duplicate_window: nanos(100) })
    await sleep(300) // the server forgets the ids
    await bus.publish(event(1), forever)
    await bus.publish(event(3), forever)
    const { state } = await (await raw.jetstreamManager()).streams.info('GANTRY_EVENTS')
    await raw.close()

    const events = await take(bus, 1, 3)

    expect(state.messages).toBe(4)
    expect(events.map(numberOf)).toEqual([1, 2, 3])
    expect(events.map(({ sequence }) => sequence)).toEqual([1, 2, 4])
  })

  test('no event is lost or doubled while the server is killed again and again', async () => {
    await using nats = await startNats()
    await using bus = connectBus(nats.config, log)
    await bus.whenReady(forever)

    const reading = take(bus, 'new', 2000)
    await sleep(50)
    const publishing = publishAll(bus, 2000)
    for (let round = 0; round < 4; round++) {
      await sleep(150)
      await nats.kill()
      await sleep(100)
      await nats.start()
    }
    await publishing
    const seen = await reading

    expect(seen.map(numberOf)).toEqual(upTo(2000))
    expect((await take(bus, 1, 2000)).map(numberOf)).toEqual(upTo(2000))
  }, 60_000)

  test('a server that lost its data gets a new log, and a reader goes on with it', async () => {
    await using nats = await startNats()
    await using bus = connectBus(nats.config, log)
    await publishAll(bus, 5)
    const stop = new AbortController()
    const events = bus.read({ from: 1, signal: stop.signal })[Symbol.asyncIterator]()
    const before = []
    for (let i = 0; i < 5; i++) before.push((await events.next()).value)

    await nats.kill()
    await nats.wipe()
    await nats.start()
    await bus.whenReady(forever)
    await bus.publish(event(6), AbortSignal.timeout(5000)).catch(() => bus.publish(event(6), forever))
    const after = (await events.next()).value
    stop.abort()

    expect(before.map(numberOf)).toEqual([1, 2, 3, 4, 5])
    expect([after.sequence, numberOf(after)]).toEqual([1, 6])
  }, 20_000)

  test('a process starts without a server, and finds it once its address is written down', async () => {
    await using nats = await startNats()
    await using bus = connectBus({ ...nats.config, url: undefined }, log)

    await sleep(100)
    const before = bus.ready
    await writeFile(nats.config.urlFile, `${nats.config.url}\n`)
    await bus.publish(event(1), forever)

    expect([before, bus.ready]).toEqual([false, true])
    await rm(nats.config.urlFile)
  })

  test('a process is listed in the directory of live instances', async () => {
    await using nats = await startNats()
    await using bus = connectBus(nats.config, log)
    await bus.whenReady(forever)
    const raw = await connectRaw(nats)

    const found = []
    for await (const { name, metadata } of await raw.services.client().ping()) found.push({ name, metadata })
    await raw.close()

    expect(found).toEqual([{ name: 'gantry-content', metadata: { address: '/run/gantry/content.sock' } }])
  })

  test('a publish without a server fails as unavailable after a short wait', async () => {
    await using nats = await startNats()
    await nats.kill()
    await using bus = connectBus(nats.config, log)

    await expect(bus.publish(event(1), forever)).rejects.toMatchObject({ code: 'unavailable' })
  })

  test.each([
    ['a wildcard', 'de*ault', '/test/x'],
    ['a deeper subject', 'default.>', '/test/x'],
    ['a dot component', 'default', '/test/./x'],
    ['white space', 'default', '/test/a b'],
    ['no slash', 'default', 'test'],
  ])('a name with %s never becomes a subject', async (_what, namespace, topic) => {
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

    await expect(bus.publish({ namespace, topic, envelope: Buffer.alloc(0) }, forever)).rejects.toMatchObject({
      code: 'invalid-argument',
    })
  })
})
