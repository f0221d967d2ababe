import { constants, mkdtempSync, openSync, readFileSync, readSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { mkfifo } from '@gantry/linux/file'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { checkStdio, loggerOf, openStdio } from './stdio.ts'

const NOTHING = { stdin: '', stdout: '', stderr: '', terminal: false }
let folder: string

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'gantry-stdio-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

test.each([
  [{ stdout: 'binary://logger' }, 'not an absolute path'],
  [{ stdout: 'binary:///%zz' }, 'its path is malformed'],
  [{ stdout: 'binary:///logger?to=a%00b' }, 'has a zero byte'],
  [{ stdout: 'http://host/' }, 'unknown STDIO scheme http'],
  [{ stdout: 'relative' }, 'not an absolute path'],
  [{ stdin: 'relative' }, 'not an absolute path'],
  [{ stdout: 'file:///log', terminal: true }, 'a file takes plain output only'],
])('%j is refused', (stdio, reason) => {
  expect(() => checkStdio({ ...NOTHING, ...stdio })).toThrow(reason)
})

test('a logger gets the keys and first values of its query as arguments', () => {
  expect(loggerOf({ ...NOTHING, stdout: 'binary:///a%20b?-f=/x%2Fy&k=1&k=2&empty' })).toEqual({
    path: '/a b',
    args: ['-f', '/x/y', 'k', '1', 'empty', ''],
    speaks: false,
  })
  expect(loggerOf({ ...NOTHING, stdout: 'binary-v2:///a' })).toEqual({ path: '/a', args: [], speaks: true })
  expect(loggerOf({ ...NOTHING, stdout: 'file:///a' })).toBeUndefined()
})

test('nothing at all is /dev/null', () => {
  using stdio = openStdio(NOTHING)

  expect(readFileSync(`/proc/self/fd/${stdio.input}`)).toHaveLength(0)
  expect(stdio.inputHold).toBeUndefined()
})

test('output survives a reader who is not there, and waits for the next one', () => {
  const path = join(folder, 'out')
  mkfifo(path, 0o700)
  using stdio = openStdio({ ...NOTHING, stdout: `fifo://${path}` })

  writeSync(stdio.output, 'text')

  const bytes = Buffer.alloc(10)
  expect(readSync(openSync(path, constants.O_RDONLY | constants.O_NONBLOCK), bytes)).toBe(4)
})

test('both outputs go to the end of one file, whose folders are made', () => {
  const path = join(folder, 'new', 'folder', 'log')
  for (const text of ['a', 'b']) {
    using stdio = openStdio({ ...NOTHING, stdout: `file://${path}`, stderr: '/ignored' })
    writeSync(stdio.output, text)
    writeSync(stdio.error, text.toUpperCase())
  }

  expect(readFileSync(path, 'utf8')).toBe('aAbB')
})

test('a file that is a FIFO is not waited for', () => {
  const path = join(folder, 'fifo')
  mkfifo(path, 0o700)

  expect(() => openStdio({ ...NOTHING, stdout: `file://${path}` })).toThrow('Cannot open the stdio: ENXIO')
})

test('a path that is not there is a fault with the reason', () => {
  expect(() => openStdio({ ...NOTHING, stdin: join(folder, 'none') })).toThrow('Cannot open the stdio: ENOENT')
})
