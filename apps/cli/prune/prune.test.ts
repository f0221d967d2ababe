import type { Container } from '@gantry/client/containers'
import type { Image } from '@gantry/client/images'
import type { TaskInfo } from '@gantry/client/tasks'
import { RESTART_POLICY, RESTART_STATUS } from '@gantry/model/restart'
import { expect, test } from 'vitest'
import { isOver } from './containers.ts'
import { unusedImages } from './images.ts'
import { labelFilter } from './label-filter.ts'

const NOW = new Date('2026-01-02T12:00:00Z')
const ENDED = { 'gantry/exit-status': '3', 'gantry/exited-at': '2026-01-02T11:59:59.000Z' }
const WATCHED = { [RESTART_STATUS]: 'running', [RESTART_POLICY]: 'on-failure' }
const container = (labels: Record<string, string>, createdAt = NOW) => ({ labels, createdAt }) as unknown as Container
const task = (status: string, exitStatus = 0) => ({ status, exitStatus }) as TaskInfo

test.each([
  ['runs', container({}), task('running'), false],
  ['is frozen', container({}), task('paused'), false],
  ['is about to run', container({}), task('created'), false],
  ['has ended', container({}), task('stopped'), true],
  ['has ended, long forgotten', container(ENDED), undefined, true],
  ['is to be started again', container(WATCHED), task('stopped', 1), false],
  ['is to be started again, its task gone', container({ ...WATCHED, ...ENDED }), undefined, false],
  ['has done what it was to', container(WATCHED), task('stopped', 0), true],
  ['was made just now', container({}), undefined, false],
  ['was made and never ran', container({}, new Date('2026-01-02T11:58:00Z')), undefined, true],
])('a container that %s', (_, of, its, expected) => {
  expect(isOver(of, its, NOW)).toBe(expected)
})

test('names of images without a tag go, but for those of an image that has one, or is used', () => {
  const digest = `sha256:${'0'.repeat(64)}`
  const named = (at: string, ...names: string[]) => names.map((name) => ({ name, target: { digest: at } }) as Image)
  const images = [
    ...named('1', 'docker.io/library/a:1', `docker.io/library/a@${digest}`, digest),
    ...named('2', 'docker.io/library/b:1', 'docker.io/library/b:2', `docker.io/library/b@${digest}`),
    ...named('3', `docker.io/library/c@${digest}`, 'any name', `docker.io/library/c:1@${digest}`),
    ...named('4', `docker.io/library/d@${digest}`, `${digest}0`),
    ...named('5', `docker.io/library/e@${digest}`),
  ]
  const used = new Set(['docker.io/library/b:1', `docker.io/library/e@${digest}`])
  const unused = (all: boolean) => unusedImages(images, used, all).map(({ name }) => name)

  expect(unused(false)).toEqual([`docker.io/library/d@${digest}`, `${digest}0`])
  const kept = ['docker.io/library/b:1', `docker.io/library/b@${digest}`, `docker.io/library/e@${digest}`]
  expect(unused(true)).toEqual(images.map(({ name }) => name).filter((name) => !kept.includes(name)))
})

test.each([
  [['label=a'], true],
  [['label=a=1'], true],
  [['label=a=2'], false],
  [['label=a', 'label=b'], false],
  [['label!=b', 'label!=a=2'], true],
  [['label!=a'], false],
  [['label=toString'], false],
])('labels pass %j: %s', (filters, expected) => {
  expect(labelFilter(filters)({ a: '1' })).toBe(expected)
})

test.each(['label', 'label=', 'until=1h', ''])('there is no filter %j', (text) => {
  expect(() => labelFilter([text])).toThrow('Cannot filter by')
})
