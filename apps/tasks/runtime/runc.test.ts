import { expect, test } from 'vitest'
import { inWordsOfRunc, lastError } from './runc.ts'

const log = (...messages: string[]) => messages.map((msg) => JSON.stringify({ level: 'error', msg })).join('\n')

test('the last error of a log counts', () => {
  expect(lastError(`${log('first', 'last ')}\n{"level":"info","msg":"x"}\nno json\n`)).toBe('last')
  expect(lastError('')).toBeUndefined()
})

test.each([
  [
    'executable file `sh` not found in $PATH: No such file or directory',
    'exec: "sh": executable file not found in $PATH',
  ],
  [
    'executable file `/x/sh` not found in $PATH: No such file or directory',
    'exec: "/x/sh": stat /x/sh: no such file or directory',
  ],
  ['open executable: Permission denied', 'exec: "/bin/tool": permission denied'],
  ['open executable: Operation not permitted', 'exec: "/bin/tool": permission denied'],
])('what crun says of a program it cannot start is told as runc tells it: %s', (said, words) => {
  expect(inWordsOfRunc(said, () => '/bin/tool')).toBe(`unable to start container process: ${words}`)
})

test('a program that is not executable is for runc not in the path, all else stays as it was said', () => {
  const words = 'unable to start container process: exec: "tool": executable file not found in $PATH'
  expect(inWordsOfRunc('open executable: Permission denied', () => 'tool')).toBe(words)
  for (const said of ['open executable: Permission denied', 'chdir `/x`: Not a directory'])
    expect(inWordsOfRunc(said, () => undefined)).toBe(said)
})
