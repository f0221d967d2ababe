import { Writable } from 'node:stream'
import { expect, test } from 'vitest'
import { writeAll } from './streams.ts'

const KIB = 1024

/** A call whose peer takes messages only when told. */
function createCall() {
  const taken: (() => void)[] = []
  const call = new Writable({
    objectMode: true,
    highWaterMark: 16,
    write: (_message, _encoding, done) => taken.push(done),
  })
  return { call, take: () => taken.shift()?.() }
}

async function* produce(size: number, made: { count: number }): AsyncGenerator<Uint8Array> {
  for (let n = 0; n < 100; n++) {
    made.count++
    yield new Uint8Array(size)
  }
}

const settle = () => new Promise((resolve) => setTimeout(resolve, 20))

test.each([
  ['large', 256 * KIB, 3],
  ['huge', 8192 * KIB, 1],
  ['small', 10, 16],
])('CVE-2022-23471: for a reader that stands still only a few %s messages are made', async (_, size, most) => {
  const { call, take } = createCall()
  const made = { count: 0 }
  const stop = new AbortController()
  const writing = writeAll(call, produce(size, made), stop.signal)
  await settle()
  expect(made.count).toBe(most)

  take()
  await settle()
  expect(made.count).toBeLessThanOrEqual(most + 1)
  stop.abort(new Error('gone'))
  await expect(writing).rejects.toThrow()
})

test('a reader that reads gets everything', async () => {
  const { call, take } = createCall()
  const made = { count: 0 }
  const timer = setInterval(take, 0)

  await writeAll(call, produce(256 * KIB, made), new AbortController().signal)

  clearInterval(timer)
  expect(made.count).toBe(100)
})
