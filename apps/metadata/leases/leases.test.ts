import { create } from '@bufbuild/protobuf'
import { ResourceSchema } from '@gantry/api/containerd/services/leases/v1/leases_pb'
import { parseNamespace } from '@gantry/model/namespace'
import { expect, test } from 'vitest'
import { openTestStore } from '../test-store.ts'
import { createLeases } from './leases.ts'

const A = parseNamespace('a')
const DIGEST = `sha256:${'a'.repeat(64)}`
const resource = (type: string, id: string) => create(ResourceSchema, { type, id })

test('a lease is listed by its labels until it is deleted', async () => {
  await using store = openTestStore()
  const leases = createLeases(store)

  const kept = await leases.create(A, 'kept', { 'moby/prune.images': 'true' })
  const other = await leases.create(A, '', {})

  expect(leases.list(A, ['labels."moby/prune.images"'])).toEqual([kept])
  expect(leases.list(A, [`id==${other.id}`])).toEqual([other])
  await leases.delete(A, 'kept')
  expect(leases.list(A, [])).toEqual([other])
  await expect(leases.delete(A, 'kept')).rejects.toMatchObject({ code: 'not-found' })
})

test('an id can be used once', async () => {
  await using store = openTestStore()
  const leases = createLeases(store)
  await leases.create(A, 'l', {})

  await expect(leases.create(A, 'l', {})).rejects.toMatchObject({ code: 'already-exists' })
})

test('resources are listed by type, without doubles, and go with their lease', async () => {
  await using store = openTestStore()
  const leases = createLeases(store)
  await leases.create(A, 'l', {})
  const held = [
    resource('content', DIGEST),
    resource('images', 'b'),
    resource('ingests', 'r'),
    resource('snapshots/overlayfs', 's'),
  ]

  for (const each of [...held, ...held].reverse()) await leases.add(A, 'l', each)
  expect(leases.resources(A, 'l')).toEqual(held)

  await leases.remove(A, 'l', resource('images', 'b'))
  await leases.remove(A, 'l', resource('images', 'never there'))
  expect(leases.resources(A, 'l')).toHaveLength(3)

  await leases.delete(A, 'l')
  await leases.create(A, 'l', {})
  expect(leases.resources(A, 'l')).toEqual([])
})

test('without the lease every call about its resources fails', async () => {
  await using store = openTestStore()
  const leases = createLeases(store)
  const gone = expect.objectContaining({ code: 'not-found' })

  await expect(leases.add(A, 'l', resource('nonsense', ''))).rejects.toThrow(gone)
  await expect(leases.remove(A, 'l', resource('images', 'b'))).rejects.toThrow(gone)
  expect(() => leases.resources(A, 'l')).toThrow(gone)
})
