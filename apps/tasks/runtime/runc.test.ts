import { expect, test } from 'vitest'
import { lastError } from './runc.ts'

const log = (...messages: string[]) => messages.map((msg) => JSON.stringify({ level: 'error', msg })).join('\n')

test('the last error of a log counts', () => {
  expect(lastError(`${log('first', 'last ')}\n{"level":"info","msg":"x"}\nno json\n`)).toBe('last')
  expect(lastError('')).toBeUndefined()
})

test.each([
  ['sh', 'unable to start container process: exec: "sh": executable file not found in $PATH'],
  ['/x/sh', 'unable to start container process: exec: "/x/sh": stat /x/sh: no such file or directory'],
])('that %s is missing is told as runc tells it', (program, words) => {
  expect(lastError(log(`executable file \`${program}\` not found in $PATH: No such file or directory`))).toBe(words)
})
