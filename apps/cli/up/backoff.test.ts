import { expect, test } from 'vitest'
import { nextDelayMs } from './backoff.ts'

test('the wait doubles from 100 ms to 5 s', () => {
  const delays: number[] = []
  for (let delay = 0; delays.length < 8; delays.push(delay)) delay = nextDelayMs(delay, 50)

  expect(delays).toEqual([100, 200, 400, 800, 1600, 3200, 5000, 5000])
})

test('ten seconds of life make it short again', () => {
  expect(nextDelayMs(5000, 9_999)).toBe(5000)
  expect(nextDelayMs(5000, 10_000)).toBe(100)
})
