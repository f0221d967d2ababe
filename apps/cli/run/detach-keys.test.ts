import { setImmediate } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { DEFAULT_DETACH_KEYS, parseDetachKeys, watchKeys } from './detach-keys.ts'

test('keys are written as in docker', () => {
  expect([...parseDetachKeys(DEFAULT_DETACH_KEYS)]).toEqual([16, 17])
  expect([...parseDetachKeys('a,ctrl-@,ctrl-[,ctrl-_,DEL')]).toEqual([97, 0, 27, 31, 127])
})

test.each(['', 'ctrl-', 'ctrl-p,', 'ctrl-P', 'ctrl-pp', 'ab', 'é', 'a, b'])('%j are no keys', (text) => {
  expect(() => parseDetachKeys(text)).toThrow('write keys like')
})

test.each([
  [['abc'], 'abc', 0],
  [['\x10\x11'], '', 1],
  [['ab\x10', '\x11'], 'ab', 1],
  [['\x10', 'x'], '\x10x', 0],
  [['\x10', '\x10', '\x11'], '\x10', 1],
  [['\x11\x10'], '\x11\x10', 0], // what waits is passed on at the end
])('of %j is passed on %j', async (typed, passed, count) => {
  let called = 0
  const keys = watchKeys(parseDetachKeys(DEFAULT_DETACH_KEYS), () => called++)
  for (const text of typed) keys.write(text)
  keys.end()

  expect(Buffer.concat(await keys.toArray()).toString()).toBe(passed)
  await setImmediate()
  expect(called).toBe(count)
})
