import { create, fromBinary } from '@bufbuild/protobuf'
import { ContainerSchema } from '@gantry/api/containerd/services/containers/v1/containers_pb'
import { parseNamespace } from '@gantry/model/namespace'
import { expect, test } from 'vitest'
import { openTestStore } from '../test-store.ts'
import { createContainers } from './containers.ts'

const A = parseNamespace('a')
const SPEC = {
  typeUrl: 'types.containerd.io/opencontainers/runtime-spec/1/Spec',
  value: new Uint8Array(Buffer.from('{"a": 1}')),
}
const OPTIONS = { typeUrl: 'containerd.runc.v1.Options', value: new Uint8Array([1]) }

function container(id: string, image = 'img') {
  const runtime = { name: 'io.containerd.runc.v2', options: OPTIONS }
  return create(ContainerSchema, { id, image, spec: SPEC, runtime, labels: { x: id } })
}

test('the life of a container record is told event by event', async () => {
  await using store = openTestStore()
  const containers = createContainers(store)

  await containers.create(A, container('box'))
  await containers.update(A, container('box', 'other'), ['image'])
  await containers.delete(A, 'box')

  const runtime = { name: 'io.containerd.runc.v2', options: { ...OPTIONS } }
  expect(store.events).toMatchObject([
    { namespace: 'a', topic: '/containers/create', event: { id: 'box', image: 'img', runtime } },
    {
      namespace: 'a',
      topic: '/containers/update',
      event: { id: 'box', image: 'other', labels: { x: 'box' }, snapshotKey: '' },
    },
    { namespace: 'a', topic: '/containers/delete', event: { id: 'box' } },
  ])
})

test('the spec comes back byte for byte', async () => {
  await using store = openTestStore()
  const containers = createContainers(store)

  await containers.create(A, container('box'))

  const { typeUrl, value } = fromBinary(ContainerSchema, containers.getBytes(A, 'box')).spec ?? {}
  expect({ typeUrl, value: new Uint8Array(value ?? []) }).toEqual(SPEC)
})

test('an id can be used once, and is free again after a delete', async () => {
  await using store = openTestStore()
  const containers = createContainers(store)
  await containers.create(A, container('box'))

  await expect(containers.create(A, container('box'))).rejects.toMatchObject({ code: 'already-exists' })
  await containers.delete(A, 'box')
  await containers.create(A, container('box'))
})

test('what is not there cannot be read, changed or deleted', async () => {
  await using store = openTestStore()
  const containers = createContainers(store)
  const gone = expect.objectContaining({ code: 'not-found' })

  expect(() => containers.getBytes(A, 'box')).toThrow(gone)
  await expect(containers.update(A, container('box'), [])).rejects.toThrow(gone)
  await expect(containers.delete(A, 'box')).rejects.toThrow(gone)
})

test('a listing is filtered and in order of ids', async () => {
  await using store = openTestStore()
  const containers = createContainers(store)
  for (const id of ['c', 'a', 'b']) await containers.create(A, container(id))

  const ids = (filters: string[]) => containers.list(A, filters).map(({ id }) => id)

  expect(ids([])).toEqual(['a', 'b', 'c'])
  expect(ids(['id==a', 'labels.x==c'])).toEqual(['a', 'c'])
  expect(() => ids(['id=='])).toThrow(expect.objectContaining({ code: 'invalid-argument' }))
})
