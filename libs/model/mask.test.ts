import { expect, test } from 'vitest'
import { parseMask, updateMap } from './mask.ts'

const accepted = { plain: ['labels', 'target'], maps: ['labels'] }

test('a path names a field, or one key that may hold dots and slashes', () => {
  expect(parseMask(['target', 'labels', 'labels.a.b/c'], accepted)).toEqual([
    { field: 'target' },
    { field: 'labels' },
    { field: 'labels', key: 'a.b/c' },
  ])
})

test.each(['', 'name', 'labels.', '.labels', 'target.x', 'Labels', 'toString'])('path %j is refused', (path) => {
  expect(() => parseMask([path], accepted)).toThrow('no such field')
})

test('a whole map may be closed to a mask', () => {
  expect(() => parseMask(['labels'], { plain: [], maps: ['labels'] })).toThrow('no such field')
})

test('a key is set, taken away, or the whole map replaced', () => {
  const current = { a: '1', b: '2' }

  expect(updateMap(current, { b: '3', c: '4' }, { field: 'labels', key: 'b' })).toEqual({ a: '1', b: '3' })
  expect(updateMap(current, {}, { field: 'labels', key: 'b' })).toEqual({ a: '1' })
  expect(updateMap(current, { c: '4' }, { field: 'labels' })).toEqual({ c: '4' })
  expect(updateMap(current, {}, { field: 'labels', key: 'toString' })).toEqual(current)
})
