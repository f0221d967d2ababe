/**
 * A process for the crash test: writes transactions of two records and a counter for ever and prints the number of each
 * one that is acknowledged. Usage: node crash.fixture.ts FOLDER
 */
import { writeSync } from 'node:fs'
import { jsonCodec } from './codec.ts'
import { openStore } from './store.ts'

const store = openStore(process.argv[2] ?? '')
const pairs = store.table('pairs', jsonCodec<number>())
const counter = store.table('counter', jsonCodec<number>())

async function add(): Promise<void> {
  const n = await store.write(() => {
    const next = (counter.get(['n']) ?? 0) + 1
    counter.put(['n'], next)
    pairs.put(['left', String(next)], next)
    pairs.put(['right', String(next)], next)
    return next
  })
  writeSync(1, `${n}\n`)
}

await Promise.all(
  Array.from({ length: 8 }, async () => {
    for (;;) await add()
  }),
)
