import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import { describe, expect, test } from 'vitest'
import { connectBus } from './bus.ts'
import type { Journal } from './journal.ts'
import { noServer, startNats } from './nats-server.fixture.ts'

const log = pino({ level: 'silent' })
const signal = new AbortController().signal
const SPEC = { name: 'TEST_JOURNAL', subject: 'test.journal', maxAgeH: 1, maxBytes: 1024 * 1024 }

const append = (journal: Journal, text: string) => journal.append(`id-${text}`, Buffer.from(text), signal)

async function contents(journal: Journal, since = new Date(0)): Promise<string[]> {
  return (await Array.fromAsync(journal.read(since, signal))).map((data) => Buffer.from(data).toString())
}

describe.skipIf(noServer)(`a journal${noServer ? ` (skipped: ${noServer})` : ''}`, () => {
  test('holds what was appended, once, in order, and is no part of the log of events', async () => {
    await using nats = await startNats()
    await using bus = connectBus(nats.config, log)
    const journal = bus.journal(SPEC)
    expect(await contents(journal)).toEqual([])

    for (const text of ['a', 'b', 'b', 'c']) await append(journal, text)
    await bus.publish({ namespace: 'default', topic: '/test', envelope: Buffer.from('event') }, signal)

    expect(await contents(journal)).toEqual(['a', 'b', 'c'])
  })

  test('is read from a time on', async () => {
    await using nats = await startNats()
    await using bus = connectBus(nats.config, log)
    const journal = bus.journal(SPEC)
    await append(journal, 'before')
    await sleep(20)
    const since = new Date()

    expect(await contents(journal, since)).toEqual([])
    await append(journal, 'after')

    expect(await contents(journal, since)).toEqual(['after'])
  })

  test('goes on where it was after the server was killed', async () => {
    await using nats = await startNats()
    await using bus = connectBus(nats.config, log)
    const journal = bus.journal(SPEC)
    await append(journal, 'a')
    await nats.kill()

    const waiting = (async () => {
      for (;;)
        try {
          return await append(journal, 'b')
        } catch {
          await sleep(10)
        }
    })()
    await nats.start()
    await waiting

    expect(await contents(journal)).toEqual(['a', 'b'])
  })
})
