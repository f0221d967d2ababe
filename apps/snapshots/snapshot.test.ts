import { describe, expect, test } from 'vitest'
import {
  type Committed,
  checkCommitting,
  checkOpening,
  commit,
  type Find,
  type Key,
  mountable,
  open,
  parseKey,
  relabel,
  removable,
  type Snapshot,
  TARGET_LABEL,
} from './snapshot.ts'

const key = (text: string): Key => parseKey(text, 'key')
const common = { parent: undefined, labels: {}, createdAt: 1, updatedAt: 1 }
const usage = { size: 1n, inodes: 1n }
const base: Committed = { ...common, kind: 'committed', id: 1, key: key('base'), usage }
const active: Snapshot = { ...common, kind: 'active', id: 2, key: key('active') }
const child: Snapshot = { ...common, kind: 'active', id: 3, key: key('child'), parent: key('base') }
const view: Snapshot = { ...common, kind: 'view', id: 4, key: key('view') }
const all = new Map<Key, Snapshot>([base, active, child, view].map((each) => [each.key, each]))
const find: Find = (name) => all.get(name)

const fault = (code: string) => expect.objectContaining({ name: 'Fault', code })

describe('opening', () => {
  const opening = { kind: 'active', key: key('new'), parent: undefined, labels: {} } as const

  test('needs no parent, and takes a committed one', () => {
    expect(checkOpening(opening, find)).toBeUndefined()
    expect(checkOpening({ ...opening, parent: key('base') }, find)).toBe(base)
  })

  test.each([
    [{ key: key('active') }, 'already-exists'],
    [{ key: key('base') }, 'already-exists'],
    [{ parent: key('absent') }, 'not-found'],
    [{ parent: key('active') }, 'invalid-argument'],
    [{ parent: key('view') }, 'invalid-argument'],
    [{ key: key('active'), parent: key('absent') }, 'already-exists'],
    [{ labels: { [TARGET_LABEL]: 'base' } }, 'already-exists'],
    [{ labels: { a: 'x'.repeat(4096) } }, 'invalid-argument'],
  ])('%j is %s', (change, code) => {
    expect(() => checkOpening({ ...opening, ...change }, find)).toThrow(fault(code))
  })

  test('a target that is not there yet is no obstacle', () => {
    expect(checkOpening({ ...opening, labels: { [TARGET_LABEL]: 'later' } }, find)).toBeUndefined()
  })

  test('labels without value are not kept', () => {
    expect(open({ ...opening, labels: { a: '', b: 'c' } }, 5, 99)).toEqual({
      kind: 'active',
      id: 5,
      key: 'new',
      parent: undefined,
      labels: { b: 'c' },
      createdAt: 99,
      updatedAt: 99,
    })
  })
})

describe('committing', () => {
  const committing = { key: key('active'), name: key('name'), parent: undefined, labels: {} }

  test.each([
    [{ name: key('base') }, 'already-exists'],
    [{ name: key('view') }, 'already-exists'],
    [{ key: key('absent') }, 'not-found'],
    [{ key: key('view') }, 'failed-precondition'],
    [{ key: key('base'), name: key('other') }, 'failed-precondition'],
    [{ parent: key('absent') }, 'not-found'],
    [{ parent: key('child') }, 'failed-precondition'],
    [{ labels: { a: 'x'.repeat(4096) } }, 'invalid-argument'],
  ])('%j is %s', (change, code) => {
    expect(() => checkCommitting({ ...committing, ...change }, find)).toThrow(fault(code))
  })

  test('keeps the number, takes the labels of the request and the time of now', () => {
    const from = { ...active, kind: 'active', labels: { old: '1' } } as const

    expect(commit(from, { ...committing, labels: { new: '2' } }, { usage, now: 7 })).toEqual({
      kind: 'committed',
      id: 2,
      key: 'name',
      parent: undefined,
      labels: { new: '2' },
      createdAt: 7,
      updatedAt: 7,
      usage,
    })
  })

  test('gives a parent only to a snapshot that has none', () => {
    const onto = { ...committing, parent: key('other') }

    expect(commit({ ...active, kind: 'active' }, onto, { usage, now: 7 }).parent).toBe('other')
    expect(commit({ ...active, kind: 'active', parent: key('base') }, onto, { usage, now: 7 }).parent).toBe('base')
    expect(checkCommitting({ ...onto, key: key('child'), parent: key('absent') }, find)).toBe(child)
  })
})

test.each([
  ['active', undefined],
  ['view', undefined],
  ['base', 'failed-precondition'],
  ['absent', 'not-found'],
])('mounting %s: %s', (name, code) => {
  if (code) expect(() => mountable(key(name), find)).toThrow(fault(code))
  else expect(mountable(key(name), find).key).toBe(name)
})

test('a snapshot that others stand on stays', () => {
  expect(() => removable(key('base'), find, () => true)).toThrow(fault('failed-precondition'))
  expect(() => removable(key('absent'), find, () => true)).toThrow(fault('not-found'))
  expect(removable(key('active'), find, () => false)).toBe(active)
})

test.each([
  [[], { b: '2' }, { b: '2' }],
  [['labels'], { b: '2' }, { b: '2' }],
  [['labels.b'], { b: '2', c: '3' }, { a: '1', b: '2' }],
  [['labels.a'], { a: '' }, {}],
])('an update of %j with %j leaves %j', (paths, labels, expected) => {
  const updated = relabel({ ...active, labels: { a: '1' } }, labels, { paths, now: 9 })

  expect(updated).toEqual({ ...active, labels: expected, updatedAt: 9 })
})

test.each([['kind'], ['labels.'], ['parent']])('an update of %s is refused', (path) => {
  expect(() => relabel(active, {}, { paths: [path], now: 9 })).toThrow(fault('invalid-argument'))
})

test.each(['', 'a\0b'])('%j is no key', (text) => {
  expect(() => key(text)).toThrow(fault('invalid-argument'))
})
