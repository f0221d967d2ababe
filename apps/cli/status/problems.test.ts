import { expect, test } from 'vitest'
import type { ProcessStatus } from './node-status.ts'
import { problemsOf } from './problems.ts'

const own = { version: '1.0.0', nowMs: 1_000_000 }
const healthy: ProcessStatus = {
  ...{ name: 'content', address: '/run/gantry/content.sock', health: 'serving', version: '1.0.0', bus: true },
  ...{ pid: 7, startedMs: 1000, memory: 1, restarts: 5, lastEnd: 'code 1', eventsBehind: 3 },
}
const nats: ProcessStatus = { name: 'nats', address: '127.0.0.1:4222', health: 'serving', version: '2.9.10' }

test('a healthy node has no problem, whatever it survived', () => {
  expect(problemsOf([healthy, { ...healthy, name: 'tasks', restarts: 0 }, nats], own)).toEqual([])
})

test.each<[string, ProcessStatus, string]>([
  [
    'a process that is away',
    { name: 'content', address: '/a.sock', health: 'away', reason: 'nobody listens there' },
    'content is away at /a.sock: nobody listens there',
  ],
  ['a process that does not serve', { ...healthy, health: 'not serving' }, 'content says that it does not serve'],
  [
    'a version that differs',
    { ...healthy, version: '0.9.0' },
    'versions differ: 1.0.0 (this command, tasks), 0.9.0 (content)',
  ],
  ['a bus out of reach', { ...healthy, bus: false }, 'content does not reach the event bus: 3 events wait there'],
  [
    'a process that ends again and again',
    { ...healthy, startedMs: 999_000 },
    'content does not stay up: 5 restarts, the last one less than a minute ago after code 1',
  ],
  [
    'no server',
    { ...nats, health: 'away', address: '', reason: 'it does not run here' },
    'nats is away: it does not run here',
  ],
])('%s is a problem', (_what, process, problem) => {
  expect(problemsOf([process, { ...healthy, name: 'tasks' }], own)).toEqual([problem])
})
