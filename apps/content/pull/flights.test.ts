import { setTimeout as sleep } from 'node:timers/promises'
import { sha256Of } from '@gantry/model/digest'
import { expect, test } from 'vitest'
import { createFlights } from './flights.ts'

const none = new AbortController().signal
const [A, B] = [sha256Of('a'), sha256Of('b')]

test('one brings a blob at a time, whoever waits comes next, and other blobs do not wait', async () => {
  const flights = createFlights()
  let [now, most, done] = [0, 0, 0]
  using _ = await flights.join(B, none)

  await Promise.all(
    Array.from({ length: 5 }, async () => {
      using _flight = await flights.join(A, none)
      most = Math.max(most, ++now)
      await sleep(1)
      now--
      done++
    }),
  )

  expect([most, done]).toEqual([1, 5])
})

test('who is cancelled while waiting lets the others go on', async () => {
  const flights = createFlights()
  const first = await flights.join(A, none)
  const stop = new AbortController()
  const waiting = flights.join(A, stop.signal)
  stop.abort(new Error('no more'))
  await expect(waiting).rejects.toThrow('no more')

  const next = flights.join(A, none)
  first[Symbol.dispose]()
  ;(await next)[Symbol.dispose]()
})
