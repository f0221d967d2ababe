import type { Container } from '@gantry/client/containers'
import { expect, test } from 'vitest'
import { passes } from './ps-filter.ts'

const box = {
  id: 'box1',
  image: 'docker.io/library/alpine:3',
  labels: { a: 'b=c', empty: '' } as Record<string, string>,
} as Container

test.each([
  [[], true],
  [['name=ox'], true],
  [['name=other'], false],
  [['name=other', 'name=box'], true],
  [['name=box', 'status=exited'], false],
  [['id=box', 'status=running', 'label=a', 'label=none'], true],
  [['id=ox'], false],
  [['label=a=b=c'], true],
  [['label=a=b'], false],
  [['label=empty='], true],
  [['ancestor=alpine:3'], true],
  [['ancestor=docker.io/library/alpine:3'], true],
  [['ancestor=alpine'], false],
])('filters %j', (filters, passing) => {
  expect(passes(filters)(box, 'running')).toBe(passing)
})

test.each(['', 'name', 'name=', '=x', 'status=gone', 'volume=x'])('the filter %j is refused', (text) => {
  expect(() => passes([text])).toThrow('Cannot filter by')
})
