import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { createVigil, type Vigil } from './vigil.ts'

beforeEach(() => void vi.useFakeTimers({ toFake: ['setImmediate', 'performance'] }))
afterEach(() => void vi.useRealTimers())

/** What is expected comes after so long, so many times. */
function serve(vigil: Vigil, ms: number, times: number): void {
  for (let time = 0; time < times; time++) {
    vigil.expect()
    vi.advanceTimersByTime(ms)
    vigil.came()
  }
}

const isAwake = (): boolean => vi.getTimerCount() > 0

test('stays awake for what came soon several times, and sleeps once it is here', () => {
  const vigil = createVigil()
  serve(vigil, 0.5, 7)
  expect(isAwake()).toBe(false)
  serve(vigil, 0.5, 1)

  vigil.expect()
  vi.advanceTimersToNextTimer()
  expect(isAwake()).toBe(true)

  vigil.came()
  vi.advanceTimersToNextTimer()
  expect(isAwake()).toBe(false)
})

test('sleeps when it does not come, and stays asleep until that has changed', () => {
  const vigil = createVigil()
  serve(vigil, 0.5, 8)
  vigil.expect()
  vi.advanceTimersByTime(2)
  vi.advanceTimersToNextTimer()
  expect(isAwake()).toBe(false)

  vigil.came()
  vigil.expect()
  expect(isAwake()).toBe(false)
})

test('sleeps for what comes late, and while there is much to do', () => {
  const late = createVigil()
  serve(late, 2, 20)
  late.expect()
  expect(isAwake()).toBe(false)

  const busy = createVigil()
  serve(busy, 0.5, 8)
  busy.cease()
  busy.expect()
  expect(isAwake()).toBe(false)
})
