import { expect, test } from 'vitest'
import { formatAge } from './age.ts'
import { familiarName } from './image-name.ts'
import { formatMemory, formatSize, parseSize } from './size.ts'
import { table } from './table.ts'

test.each([
  [0, '0B'],
  [999, '999B'],
  [1000, '1kB'],
  [4_261_502, '4.26MB'],
  [999_900, '1MB'],
  [10n ** 16n, '10000TB'],
])('%s bytes are shown as %s', (bytes, text) => {
  expect(formatSize(bytes)).toBe(text)
})

test.each([
  [0, '0B'],
  [1023, '1023B'],
  [1024, '1KiB'],
  [1_589_248, '1.516MiB'],
  [2n ** 54n, '16380TiB'],
])('%s bytes of memory are shown as %s', (bytes, text) => {
  expect(formatMemory(bytes)).toBe(text)
})

test.each([
  ['512', 512n],
  ['64m', 64n * 1024n ** 2n],
  ['64MiB', 64n * 1024n ** 2n],
  ['1.5g', 1536n * 1024n ** 2n],
  ['2kb', 2048n],
])('%s is read as %s bytes', (text, bytes) => {
  expect(parseSize(text)).toBe(bytes)
})

test.each(['', 'm', '-1', '1x', '1 g', '0x10', '1e3', '9999999999999999999'])('the size %j is refused', (text) => {
  expect(() => parseSize(text)).toThrow('Cannot use size')
})

test.each([
  [0, 'just now'],
  [1, '1 second ago'],
  [119, '1 minute ago'],
  [7200, '2 hours ago'],
  [8 * 24 * 3600, '1 week ago'],
])('%s seconds are "%s"', (seconds, text) => {
  expect(formatAge(new Date(0), new Date(seconds * 1000))).toBe(text)
})

test.each([
  ['docker.io/library/busybox:1', { repository: 'busybox', tag: '1' }],
  ['docker.io/team/app:2', { repository: 'team/app', tag: '2' }],
  ['127.0.0.1:5000/a/b@sha256:'.concat('0'.repeat(64)), { repository: '127.0.0.1:5000/a/b', tag: '<none>' }],
  ['a name of ctr', { repository: 'a name of ctr', tag: '<none>' }],
])('%s is shown as people say it', (name, shown) => {
  expect(familiarName(name)).toEqual(shown)
})

test('the columns of a table are as wide as they must be, and hold no control characters', () => {
  expect(
    table(
      ['ID', 'NAME'],
      [
        ['12345', 'x'],
        ['1', 'y\u001b[2J'],
      ],
    ),
  ).toBe('ID      NAME\n12345   x\n1       y\\x1b[2J\n')
})
