import { isFault } from '@gantry/model/fault'
import { describe, expect, test } from 'vitest'
import { checkExec, checkInit, type Live, move, pidOf, type Status, stop, type Verb } from './task.ts'

const LIVE: Live = {
  process: { pid: 7, startTime: '70' },
  monitor: { pid: 6, startTime: '60' },
  input: null,
  output: null,
}

/** What a refusal says, or `ok`. */
function outcome(check: () => void): string {
  try {
    check()
    return 'ok'
  } catch (error) {
    return isFault(error) ? error.code : 'bug'
  }
}

describe('a task answers', () => {
  const states = ['created', 'running', 'paused', 'stopped'] as const
  const table: [Verb, ...string[]][] = [
    ['start', 'ok', 'unknown', 'unknown', 'unknown'],
    ['kill', 'ok', 'ok', 'ok', 'not-found'],
    ['pause', 'unknown', 'ok', 'unknown', 'unknown'],
    ['resume', 'unknown', 'unknown', 'ok', 'unknown'],
    ['delete', 'ok', 'unknown', 'unknown', 'ok'],
    ['exec', 'ok', 'ok', 'unknown', 'unknown'],
    ['update', 'ok', 'ok', 'ok', 'unknown'],
    ['checkpoint', 'unknown', 'ok', 'ok', 'unknown'],
  ]

  test.each(table)('%s when it is created, running, paused, stopped: %s, %s, %s, %s', (verb, ...expected) => {
    expect(states.map((status) => outcome(() => checkInit(verb, status)))).toEqual(expected)
  })
})

describe('an exec answers', () => {
  const states: Status[] = ['added', 'failed', 'running', 'stopped']
  const table: ['start' | 'kill' | 'delete', ...string[]][] = [
    ['start', 'ok', 'unknown', 'unknown', 'unknown'],
    ['kill', 'failed-precondition', 'not-found', 'ok', 'not-found'],
    ['delete', 'ok', 'ok', 'unknown', 'ok'],
  ]

  test.each(table)('%s when it is added, failed, running, stopped: %s, %s, %s, %s', (verb, ...expected) => {
    expect(states.map((status) => outcome(() => checkExec(verb, status)))).toEqual(expected)
  })
})

test('deleting a running task says so in the words clients match', () => {
  expect(() => checkInit('delete', 'running')).toThrow('failed to delete task: cannot delete a running process')
})

test('a process keeps its pid when it has stopped', () => {
  const running = move({ status: 'created', live: LIVE }, 'running')

  const stopped = stop(running, { status: 137, atMs: 5 })

  expect(stopped).toEqual({ status: 'stopped', live: LIVE, exit: { status: 137, atMs: 5 } })
  expect(pidOf(stopped)).toBe(7)
  expect(pidOf({ status: 'failed' })).toBe(0)
})
