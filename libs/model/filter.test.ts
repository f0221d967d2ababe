import { expect, test } from 'vitest'
import { isFault } from './fault.ts'
import { fieldsOf, parseFilters } from './filter.ts'

const image = fieldsOf({
  name: 'docker.io/library/busybox:latest',
  type: 'io.containerd.snapshotter.v1',
  topic: '/tasks/oom',
  empty: '',
  labels: { 'a.b': '1', 'x/y-z': 'two', blank: '', é: 'accent' },
})

test.each([
  ['no filter at all', []],
  ['an empty filter', ['']],
  ['presence', ['name']],
  ['equality of a bare value with slashes and a colon', ['name==docker.io/library/busybox:latest']],
  ['a quoted value', ['name=="docker.io/library/busybox:latest"']],
  ['white space between tokens', ['type==io.containerd.snapshotter.v1, name ~= busybox']],
  ['a bare value holding operator characters', ['labels.none!=a=b@c']],
  ['a label by joined components', ['labels.a.b==1']],
  ['a label by a quoted key', ['labels."a.b"==1', 'nothing']],
  ['a label whose key needs quotes', ['labels."x/y-z"==two']],
  ['an empty label, which is present', ['labels.blank']],
  ['any of several filters', ['name==other', 'topic=="/tasks/oom"']],
  ['inequality of an absent field', ['nothing!=x']],
  ['a pattern in bars', ['topic~=|^/tasks/|']],
  ['a pattern in slashes', ['name~=/busy.ox/']],
  ['a bare pattern', ['topic~=^/tasks']],
  ['a pattern with a comma in quotes', ['name~="busy(box){1,2}"']],
  ['a pattern that an absent field matches as ""', ['nothing~=^$']],
  ['a pattern that ignores case', ['name~=(?i)BUSY[B-b]OX']],
  ['a named group as RE2 spells it', ['name~="(?P<x>busy)"']],
  ['a named set', ['name~="[[:alpha:]]+box"']],
  ['escapes', ['name!="\\x41\\101\\u0041\\U00000041\\n\\""']],
  ['an escaped slash in a slash pattern', ['topic~=/\\/tasks/']],
])('a filter lets through %s', (_, filters) => {
  expect(parseFilters(filters)(image)).toBe(true)
})

test.each([
  ['a presence test of an absent field', ['nothing']],
  ['a presence test of an empty plain field', ['empty']],
  ['a presence test of a map', ['labels']],
  ['one selector of two that fails', ['name,labels.none']],
  ['equality with an absent field', ['nothing==x']],
  ['inequality of an equal value', ['labels.a.b!=1']],
  ['a bad pattern', ['name~="("']],
  ['a pattern with a back reference', ['name~="(o)\\\\1"']],
  ['a pattern with look-around', ['name~="(?=busy)"']],
  ['a pattern longer than the limit', [`name~=b|${'a'.repeat(5000)}`]],
  ['a name every object inherits', ['constructor']],
  ['a label every object inherits', ['labels.toString']],
])('a filter stops %s', (_, filters) => {
  expect(parseFilters(filters)(image)).toBe(false)
})

test.each([
  ['a slash quote around a plain value', 'topic==/tasks/oom'],
  ['a bar quote around a plain value', 'topic==|x|'],
  ['an unknown operator', 'name=x'],
  ['a tripled operator', 'name===x'],
  ['a missing value', 'name=='],
  ['a value that begins with a dot', 'name==.x'],
  ['a trailing comma', 'name==x,'],
  ['a trailing dot', 'labels.=='],
  ['two selectors without a comma', 'name==x y'],
  ['only white space', '  '],
  ['an open quote', 'name=="x'],
  ['a raw line break in quotes', 'name=="a\nb"'],
  ['another quote escaped', 'name=="\\|"'],
  ['an unknown escape', 'name=="\\q"'],
  ['an escape of half a character', 'name=="\\ud800"'],
  ['an escape past the last character', 'name=="\\UFFFFFFFF"'],
  ['a dash in a field', 'labels.a-b==1'],
  ['a single quote', "labels.'a'==1"],
  ['a control character in a value', 'name==a\u0001b'],
])('a filter with %s is refused', (_, filter) => {
  let caught: unknown
  try {
    parseFilters([filter])
  } catch (error) {
    caught = error
  }

  expect(isFault(caught, 'invalid-argument')).toBe(true)
})

/** What containerd 1.6 says of each. */
test.each([
  ['^[a-f0-9]{64}$', true],
  ['^(a{8}){8}$', true],
  ['^(?:[[:lower:]]{2}){32}$', true],
  ['^a{20,}$', true],
  ['^a{60,70}$', true],
  ['^a{0,1000}$', true],
  ['^a{2}?a{62}$', true],
  ['^\\\\x61{64}$', true],
  ['^(b{3}|a{64}){1}$', true],
  ['^a{63}$', false],
  ['^a{65,}$', false],
  ['^a{1001}$|a', false],
  ['a{,5}', false],
  ['a{64}{1}', false],
  ['a*{2}', false],
  ['{2}', false],
  ['a{5,2}', false],
])('a repetition so many times: %s is %s of a digest', (pattern, expected) => {
  expect(parseFilters([`id~="${pattern}"`])(fieldsOf({ id: 'a'.repeat(64) }))).toBe(expected)
})

test.each(['((((a{99}){99}){99}){99})', '(.{0,900}){900}', `${'(a?){1000}'.repeat(400)}b`])(
  'a pattern made to grow takes no time: %s',
  (pattern) => {
    const started = performance.now()

    expect(parseFilters([`name~="${pattern}"`])(() => 'a'.repeat(4096))).toBe(false)

    expect(performance.now() - started).toBeLessThan(1000)
  },
)

test('a pattern made to backtrack takes no time', () => {
  const matches = parseFilters(['name~="(a+)+$"', 'name~="^(a|aa)+$"'])
  const started = performance.now()

  expect(matches(() => `${'a'.repeat(20_000)}b`)).toBe(false)

  expect(performance.now() - started).toBeLessThan(1000)
})

test('a pattern that takes long with each of many is given up', { timeout: 30_000 }, () => {
  const matches = parseFilters([`name~="${'(a|b|ab)*'.repeat(300)}c"`])
  const field = () => 'ab'.repeat(2048)
  const many = (): void => {
    for (let count = 0; count < 1000; count++) matches(field)
  }

  expect(many).toThrow(expect.objectContaining({ code: 'resource-exhausted' }))
})
