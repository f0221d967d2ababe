import { expect, test } from 'vitest'
import { renderJson, renderPretty } from './log-line.ts'

const time = new Date(2026, 0, 2, 3, 4, 5, 67).getTime()
const line = (fields: object) =>
  JSON.stringify({ level: 30, time, pid: 1, hostname: 'h', name: 'gantry-tasks', ...fields })

test('a log line becomes process, time, level, message and fields', () => {
  expect(renderPretty('tasks', line({ msg: 'Is ready', id: 'box', list: ['a b'] }))).toBe(
    'tasks     | 03:04:05.067 INFO  Is ready id=box list=["a b"]',
  )
})

test('an error brings its stack, on lines with the same prefix', () => {
  const err = { type: 'Error', message: 'no', stack: 'Error: no\n    at f (x.ts:1)' }

  expect(renderPretty('tasks', line({ level: 50, msg: 'Failed', err }))).toBe(
    'tasks     | 03:04:05.067 ERROR Failed err="no"\ntasks     |     Error: no\ntasks     |     at f (x.ts:1)',
  )
})

test('what is no log line stays as it is, but cannot drive a terminal', () => {
  expect(renderPretty('content', 'plain \u001b[31mred')).toBe('content   | plain \\x1b[31mred')
  expect(renderPretty('content', line({ msg: 'a\nb' }))).toBe('content   | 03:04:05.067 INFO  a\\x0ab')
  expect(renderPretty('content', '{"level":')).toBe('content   | {"level":')
})

test('the nats-server looks like the others, without its banner', () => {
  expect(renderPretty('nats', '[12] 2026/11/21 10:03:34.762123 [INF] Server is ready')).toBe(
    'nats      | 10:03:34.762 INFO  Server is ready',
  )
  expect(renderPretty('nats', '[12] 2026/11/21 10:03:34.762123 [INF]   Version:  2.9.10')).toBeUndefined()
  expect(renderPretty('nats', '[12] 2026/11/21 10:03:34.762123 [ERR] No space')).toBe(
    'nats      | 10:03:34.762 ERROR No space',
  )
})

test('machines get JSON lines as they are, others wrapped', () => {
  expect(renderJson('tasks', line({ msg: 'x' }))).toBe(line({ msg: 'x' }))
  expect(JSON.parse(renderJson('tasks', 'plain'))).toMatchObject({ level: 30, name: 'gantry-tasks', msg: 'plain' })
})
