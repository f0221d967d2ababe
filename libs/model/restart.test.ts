import { expect, test } from 'vitest'
import {
  EXPLICITLY_STOPPED,
  parseRestartPolicy,
  RESTART_COUNT,
  RESTART_POLICY,
  RESTART_STATUS,
  shouldRestart,
} from './restart.ts'

test.each([
  ['no', { name: 'no', max: 0 }],
  ['always', { name: 'always', max: 0 }],
  ['unless-stopped', { name: 'unless-stopped', max: 0 }],
  ['on-failure', { name: 'on-failure', max: 0 }],
  ['on-failure:3', { name: 'on-failure', max: 3 }],
])('the policy %s is read', (text, policy) => {
  expect(parseRestartPolicy(text)).toEqual(policy)
})

test.each(['', 'never', 'always:3', 'on-failure:', 'on-failure:-1', 'on-failure:x'])(
  'the policy %j is refused',
  (text) => {
    expect(() => parseRestartPolicy(text)).toThrow('give no, always, unless-stopped')
  },
)

test.each<[string, Record<string, string>, number | undefined, boolean]>([
  ['without a policy', {}, 0, true],
  ['always', { [RESTART_POLICY]: 'always' }, 0, true],
  ['always, though nobody knows how it ended', { [RESTART_POLICY]: 'always' }, undefined, true],
  ['no', { [RESTART_POLICY]: 'no' }, 1, false],
  ['some other policy', { [RESTART_POLICY]: 'sometimes' }, 1, false],
  ['unless-stopped', { [RESTART_POLICY]: 'unless-stopped' }, 0, true],
  ['unless-stopped, and it was', { [RESTART_POLICY]: 'unless-stopped', [EXPLICITLY_STOPPED]: 'true' }, 0, false],
  ['on-failure, and it went well', { [RESTART_POLICY]: 'on-failure' }, 0, false],
  ['on-failure, and it failed', { [RESTART_POLICY]: 'on-failure', [RESTART_COUNT]: '100' }, 1, true],
  ['on-failure, and nobody knows', { [RESTART_POLICY]: 'on-failure' }, undefined, false],
  ['on-failure, once more', { [RESTART_POLICY]: 'on-failure:2', [RESTART_COUNT]: '1' }, 1, true],
  ['on-failure, often enough', { [RESTART_POLICY]: 'on-failure:2', [RESTART_COUNT]: '2' }, 1, false],
])('started again: %s', (_, labels, exitStatus, expected) => {
  expect(shouldRestart({ ...labels, [RESTART_STATUS]: 'running' }, exitStatus)).toBe(expected)
  expect(shouldRestart({ ...labels, [RESTART_STATUS]: 'stopped' }, exitStatus)).toBe(false)
  expect(shouldRestart(labels, exitStatus)).toBe(false)
})
