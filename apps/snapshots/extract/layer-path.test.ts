import { describe, expect, test } from 'vitest'
import { parsePath, parseTarget } from './layer-path.ts'
import { DEFAULT_LIMITS } from './limits.ts'

describe('paths', () => {
  test.each([
    ['a/b', ['a', 'b']],
    ['./a//b/', ['a', 'b']],
    ['/etc/passwd', ['etc', 'passwd']],
    ['../../etc/passwd', ['etc', 'passwd']],
    ['a/../../../b', ['b']],
    ['', []],
    ['./', []],
    ['/', []],
    ['a/..', []],
  ])('%j is %j from the root of the layer', (name, path) => {
    expect(parsePath(name, DEFAULT_LIMITS)).toEqual(path)
  })

  test.each([
    ['a\0b', 'NUL', 'invalid-argument'],
    [`${'a/'.repeat(300)}b`, 'deep', 'resource-exhausted'],
    ['ab/'.repeat(1500), 'bytes', 'resource-exhausted'],
    ['x'.repeat(256), '255 bytes', 'invalid-argument'],
  ])('a name that cannot be is refused, with the reason', (name, reason, code) => {
    expect(() => parsePath(name, DEFAULT_LIMITS)).toThrow(expect.objectContaining({ code }))
    expect(() => parsePath(name, DEFAULT_LIMITS)).toThrow(reason)
  })
})

describe('whiteouts', () => {
  test.each([
    ['./', { kind: 'root' }],
    ['a', { kind: 'entry', folder: [], base: 'a' }],
    ['a/b/c', { kind: 'entry', folder: ['a', 'b'], base: 'c' }],
    ['a/.wh.b', { kind: 'whiteout', folder: ['a'], base: 'b' }],
    ['.wh.b', { kind: 'whiteout', folder: [], base: 'b' }],
    ['a/.wh..wh..opq', { kind: 'opaque', folder: ['a'] }],
    ['.wh..wh..opq', { kind: 'opaque', folder: [] }],
    ['.wh..wh.aufs', { kind: 'ignored' }],
    ['.wh..wh.plnk/1.2', { kind: 'ignored' }],
    ['a/.wh..hidden', { kind: 'whiteout', folder: ['a'], base: '.hidden' }],
  ])('%s asks for %j', (name, target) => {
    expect(parseTarget(name, DEFAULT_LIMITS)).toEqual(target)
  })

  test.each(['.wh.', 'a/.wh..', 'a/.wh...'])('%s, a whiteout of no name, is refused', (name) => {
    expect(() => parseTarget(name, DEFAULT_LIMITS)).toThrow('it is a whiteout of no name')
  })
})
