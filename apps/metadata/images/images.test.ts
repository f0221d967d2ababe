import { create } from '@bufbuild/protobuf'
import { ImageSchema } from '@gantry/api/containerd/services/images/v1/images_pb'
import { parseNamespace } from '@gantry/model/namespace'
import { expect, test } from 'vitest'
import { createLeases } from '../leases/leases.ts'
import { openTestStore, timestamp } from '../test-store.ts'
import { createImages } from './images.ts'

const A = parseNamespace('a')
const B = parseNamespace('b')
const IN_A = { namespace: A, lease: undefined }
const DIGEST = `sha256:${'a'.repeat(64)}`
const EXPIRING = { 'containerd.io/gc.expire': '2030-01-01T00:00:00Z' }

function image(name: string, init: object = {}) {
  return create(ImageSchema, { name, target: { mediaType: 'm', digest: DIGEST, size: 1n }, ...init })
}

test('an image lives in its namespace only, and its creation is told', async () => {
  await using store = openTestStore()
  const images = createImages(store)

  const created = await images.create(IN_A, image('box', { labels: { x: '1' } }), undefined)

  expect(images.get(A, 'box')).toEqual(created)
  expect(images.list(A, [])).toEqual([created])
  expect(images.list(B, [])).toEqual([])
  expect(() => images.get(B, 'box')).toThrow('not found')
  expect(store.rows.namespaces.has(['a'])).toBe(true)
  expect(store.events).toEqual([
    { namespace: 'a', topic: '/images/create', event: { name: 'box', labels: { x: '1' } } },
  ])
})

test('a name can be created once', async () => {
  await using store = openTestStore()
  const images = createImages(store)
  await images.create(IN_A, image('box'), undefined)

  await expect(images.create(IN_A, image('box'), undefined)).rejects.toMatchObject({ code: 'already-exists' })
  expect(store.events).toHaveLength(1)
})

test('the epoch of the source takes the place of now', async () => {
  await using store = openTestStore()
  const images = createImages(store)

  const created = await images.create(IN_A, image('box'), timestamp(5))
  const updated = await images.update(A, image('box'), [], timestamp(6))

  expect([created.createdAt, updated.createdAt, updated.updatedAt]).toEqual([timestamp(5), timestamp(5), timestamp(6)])
})

test('an update of an image that is not there fails, whatever its mask', async () => {
  await using store = openTestStore()

  const images = createImages(store)

  await expect(images.update(A, image('box'), ['nonsense'], undefined)).rejects.toMatchObject({ code: 'not-found' })
  await expect(images.update(A, image(''), [], undefined)).rejects.toMatchObject({ code: 'invalid-argument' })
})

test('a delete that names a digest removes only an image that points there', async () => {
  await using store = openTestStore()
  const images = createImages(store)
  await images.create(IN_A, image('box'), undefined)

  await expect(images.delete(IN_A, 'box', `sha256:${'b'.repeat(64)}`)).rejects.toMatchObject({ code: 'not-found' })
  await images.delete(IN_A, 'box', DIGEST)

  expect(images.list(A, [])).toEqual([])
  await expect(images.delete(IN_A, 'box', '')).rejects.toMatchObject({ code: 'not-found' })
  expect(store.events.map(({ topic }) => topic)).toEqual(['/images/create', '/images/delete'])
})

test('only an image that will expire belongs to the lease of the call, also when it existed before', async () => {
  await using store = openTestStore()
  const images = createImages(store)
  const leases = createLeases(store)
  await leases.create(A, 'l', {})
  const caller = { namespace: A, lease: 'l' }

  await images.create(caller, image('lasting'), undefined)
  await images.create(IN_A, image('expiring', { labels: EXPIRING }), undefined)
  await expect(images.create(caller, image('expiring', { labels: EXPIRING }), undefined)).rejects.toMatchObject({
    code: 'already-exists',
  })

  expect(leases.resources(A, 'l')).toMatchObject([{ type: 'images', id: 'expiring' }])
})

test('under a lease that is not there an expiring image is not created', async () => {
  await using store = openTestStore()
  const images = createImages(store)

  const creating = images.create({ namespace: A, lease: 'l' }, image('box', { labels: EXPIRING }), undefined)

  await expect(creating).rejects.toMatchObject({ code: 'not-found' })
  expect(images.list(A, [])).toEqual([])
})
