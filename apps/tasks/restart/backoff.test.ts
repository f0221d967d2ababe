import { expect, test } from 'vitest'
import { createBackoff } from './backoff.ts'

test('who ends soon waits longer each time, up to a minute; a long run makes up for it', () => {
  const backoff = createBackoff()
  const afterRunOf = (ms: number) => {
    backoff.started(0)
    return backoff.next(ms)
  }

  expect(backoff.next(0)).toBe(100)
  expect(Array.from({ length: 11 }, () => afterRunOf(9999))).toEqual([
    ...[200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000],
  ])
  expect(afterRunOf(10_000)).toBe(100)
})

test('who could not even be started waits longer too', () => {
  const backoff = createBackoff()

  expect([backoff.next(0), backoff.next(100_000), backoff.next(200_000)]).toEqual([100, 200, 400])
})
