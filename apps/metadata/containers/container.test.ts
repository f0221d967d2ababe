import { create } from '@bufbuild/protobuf'
import { type Container, ContainerSchema } from '@gantry/api/containerd/services/containers/v1/containers_pb'
import { parseFilters } from '@gantry/model/filter'
import { expect, test } from 'vitest'
import { timestamp } from '../test-store.ts'
import { containerFields, newContainer, updatedContainer } from './container.ts'

const RUNTIME = { name: 'io.containerd.runc.v2' }
const SPEC = {
  typeUrl: 'types.containerd.io/opencontainers/runtime-spec/1/Spec',
  value: new TextEncoder().encode('{}'),
}
const THEN = timestamp(1)
const NOW = timestamp(2)
const refused = expect.objectContaining({ code: 'invalid-argument' })

function container(init: object = {}): Container {
  return create(ContainerSchema, { id: 'box', runtime: RUNTIME, spec: SPEC, ...init })
}

test('a new container gets our times, whatever the caller says', () => {
  expect(newContainer(container({ createdAt: THEN }), NOW)).toEqual(container({ createdAt: NOW, updatedAt: NOW }))
})

test.each([
  ['an empty id', container({ id: '' })],
  ['an id that is no identifier', container({ id: 'a/b' })],
  ['an id that is too long', container({ id: 'a'.repeat(77) })],
  ['a runtime without a name', container({ runtime: {} })],
  ['no spec', create(ContainerSchema, { id: 'box', runtime: RUNTIME })],
  ['no runtime', create(ContainerSchema, { id: 'box', spec: SPEC })],
  ['a snapshot without a snapshotter', container({ snapshotKey: 'box' })],
  ['a nameless extension', container({ extensions: { '': SPEC } })],
  ['a label that is too large', container({ labels: { a: 'x'.repeat(4096) } })],
])('a container with %s is refused', (_what, wanted) => {
  expect(() => newContainer(wanted, NOW)).toThrow(refused)
})

test('an update without a mask replaces all that may change', () => {
  const current = newContainer(
    container({ snapshotter: 'overlayfs', image: 'old', labels: { a: '1' }, sandbox: 's' }),
    THEN,
  )
  const next = container({
    snapshotter: 'overlayfs',
    snapshotKey: 'k',
    image: 'new',
    labels: { b: '2' },
    sandbox: 'other',
  })

  expect(updatedContainer(current, next, [], NOW)).toEqual(
    container({
      snapshotter: 'overlayfs',
      snapshotKey: 'k',
      image: 'new',
      labels: { b: '2' },
      sandbox: 's',
      createdAt: THEN,
      updatedAt: NOW,
    }),
  )
})

test.each([
  ['snapshotter', container({ snapshotter: 'native' })],
  ['runtime', container({ runtime: { name: 'io.containerd.runsc.v1' } })],
])('an update without a mask cannot change the %s', (_what, next) => {
  expect(() => updatedContainer(newContainer(container(), THEN), next, [], NOW)).toThrow(refused)
})

test('a mask of one extension and one label leaves the others alone', () => {
  const current = newContainer(container({ labels: { a: '1', b: '2' }, extensions: { x: SPEC } }), THEN)
  const next = container({ labels: { b: '' }, extensions: { 'y.z': SPEC } })

  const updated = updatedContainer(current, next, ['labels.b', 'extensions.y.z'], NOW)

  expect(updated).toEqual(
    container({ labels: { a: '1' }, extensions: { x: SPEC, 'y.z': SPEC }, createdAt: THEN, updatedAt: NOW }),
  )
})

test('a mask of the spec needs a spec', () => {
  const current = newContainer(container(), THEN)

  expect(() => updatedContainer(current, create(ContainerSchema, { id: 'box' }), ['spec'], NOW)).toThrow(refused)
})

test.each(['id', 'runtime', 'snapshotter', 'sandbox', 'snapshot_key'])('an update of "%s" is refused', (path) => {
  expect(() => updatedContainer(newContainer(container(), THEN), container(), [path], NOW)).toThrow(refused)
})

test.each([
  ['id==box', true],
  ['runtime.name==io.containerd.runc.v2', true],
  ['image', false],
  ['labels.a', true],
])('the filter %s is %s', (filter, expected) => {
  expect(parseFilters([filter])(containerFields(container({ labels: { a: '1' } })))).toBe(expected)
})
