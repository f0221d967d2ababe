import { create } from '@bufbuild/protobuf'
import { ImageSchema } from '@gantry/api/containerd/services/images/v1/images_pb'
import { type Holding, HoldingSchema } from '@gantry/api/gantry/owner/v1/owner_pb'
import { Fault } from '@gantry/model/fault'
import { parseNamespace } from '@gantry/model/namespace'
import { expect, test } from 'vitest'
import { createImages } from '../images/images.ts'
import { createLeases } from '../leases/leases.ts'
import type { Owners } from '../owners.ts'
import { openTestStore } from '../test-store.ts'
import { createNamespaces } from './namespaces.ts'

const A = parseNamespace('a')
const B = parseNamespace('b')
const signal = AbortSignal.timeout(10_000)
const NOTHING: Owners = { reachable: async () => [], all: async () => [] }

function holding(holdings: Holding[]): Owners {
  return { reachable: async () => holdings, all: async () => holdings }
}

test('a namespace nobody made can be got, but is not listed', async () => {
  await using store = openTestStore()
  const namespaces = createNamespaces({ ...store, owners: NOTHING })

  expect(namespaces.get('ghost')).toMatchObject({ name: 'ghost', labels: {} })
  expect(await namespaces.list(signal)).toEqual([])
})

test('a listing joins what is recorded with what owners hold, in order', async () => {
  await using store = openTestStore()
  const held = ['z', 'b', 'z'].map((namespace) => create(HoldingSchema, { namespace, hasBlobs: true }))
  const namespaces = createNamespaces({ ...store, owners: holding(held) })
  await namespaces.update(B, { x: '1' }, [])
  await createLeases(store).create(A, 'l', {})

  expect(await namespaces.list(signal)).toMatchObject([
    { name: 'a', labels: {} },
    { name: 'b', labels: { x: '1' } },
    { name: 'z', labels: {} },
  ])
})

test('a namespace that exists cannot be created, also when only an owner knows it', async () => {
  await using store = openTestStore()
  const held = [create(HoldingSchema, { namespace: 'b', snapshotters: ['native'] })]
  const namespaces = createNamespaces({ ...store, owners: holding(held) })
  await namespaces.create(A, { x: '1', y: '' }, signal)

  await expect(namespaces.create(A, {}, signal)).rejects.toMatchObject({ code: 'already-exists' })
  await expect(namespaces.create(B, {}, signal)).rejects.toMatchObject({ code: 'already-exists' })
  expect(store.events).toEqual([
    { namespace: 'a', topic: '/namespaces/create', event: { name: 'a', labels: { x: '1' } } },
  ])
})

test('an update sets single labels by mask and replaces all without one', async () => {
  await using store = openTestStore()
  const namespaces = createNamespaces({ ...store, owners: NOTHING })

  await namespaces.update(A, { x: '1', y: '2' }, [])
  await namespaces.update(A, { x: '', 'k.l/m': '3' }, ['labels.x', 'labels.k.l/m'])
  expect(namespaces.get('a').labels).toEqual({ y: '2', 'k.l/m': '3' })

  await namespaces.update(A, { z: '4' }, [])
  expect(namespaces.get('a').labels).toEqual({ z: '4' })
})

test.each(['labels', 'name', 'labels.'])('an update of "%s" is refused', async (path) => {
  await using store = openTestStore()
  const namespaces = createNamespaces({ ...store, owners: NOTHING })

  await expect(namespaces.update(A, {}, [path])).rejects.toMatchObject({ code: 'invalid-argument' })
})

test('a namespace that still holds something stays', async () => {
  await using store = openTestStore()
  const held = [
    { namespace: 'a', snapshotters: ['native'] },
    { namespace: 'b', hasBlobs: true },
    { namespace: 'b', snapshotters: ['native', 'overlayfs'] },
  ].map((holding) => create(HoldingSchema, holding))
  const namespaces = createNamespaces({ ...store, owners: holding(held) })
  await namespaces.update(B, {}, [])
  const target = { mediaType: 'm', digest: `sha256:${'a'.repeat(64)}`, size: 1n }
  await createImages(store).create(
    { namespace: B, lease: undefined },
    create(ImageSchema, { name: 'box', target }),
    undefined,
  )

  await expect(namespaces.delete('b', signal)).rejects.toMatchObject({
    code: 'failed-precondition',
    message:
      'namespace "b" must be empty, but it still has images, blobs, snapshots on "native" snapshotter, snapshots on "overlayfs" snapshotter',
  })
  await expect(namespaces.delete('never', signal)).rejects.toMatchObject({ code: 'not-found' })
})

test('a namespace goes with its leases, which do not keep it', async () => {
  await using store = openTestStore()
  const namespaces = createNamespaces({ ...store, owners: NOTHING })
  const leases = createLeases(store)
  await leases.create(A, 'l', {})
  await leases.create(parseNamespace('ab'), 'l', {})

  await namespaces.delete('a', signal)

  expect(leases.list(A, [])).toEqual([])
  expect(await namespaces.list(signal)).toMatchObject([{ name: 'ab' }])
})

test('nothing is deleted while an owner cannot be asked', async () => {
  await using store = openTestStore()
  const down = async () => Promise.reject(new Fault('unavailable', 'content is down'))
  const namespaces = createNamespaces({ ...store, owners: { ...NOTHING, all: down } })
  await namespaces.update(A, {}, [])

  await expect(namespaces.delete('a', signal)).rejects.toMatchObject({ code: 'unavailable' })
  expect(namespaces.get('a')).toBeDefined()
})
