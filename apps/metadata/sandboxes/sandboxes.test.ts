import { create } from '@bufbuild/protobuf'
import { SandboxSchema } from '@gantry/api/containerd/types/sandbox_pb'
import { parseNamespace } from '@gantry/model/namespace'
import { expect, test } from 'vitest'
import { openTestStore, timestamp } from '../test-store.ts'
import { createSandboxes } from './sandboxes.ts'

const A = parseNamespace('a')
const B = parseNamespace('b')
const any = (text: string) => ({ typeUrl: 'x', value: new Uint8Array(Buffer.from(text)) })

function sandbox(id: string, more: object = {}) {
  const runtime = { name: 'io.containerd.runc.v2', options: any('options') }
  return create(SandboxSchema, { sandboxId: id, sandboxer: 'shim', runtime, labels: { x: id }, ...more })
}

test('a record has times of ours, and is seen in its namespace alone', async () => {
  await using store = openTestStore()
  const sandboxes = createSandboxes(store)

  const made = await sandboxes.create(A, sandbox('pod', { createdAt: timestamp(1) }))

  expect(made).toMatchObject({
    sandboxId: 'pod',
    sandboxer: 'shim',
    createdAt: timestamp(1000),
    updatedAt: timestamp(1000),
  })
  expect(sandboxes.get(A, 'pod')).toEqual(made)
  expect(() => sandboxes.get(B, 'pod')).toThrow('not found')
  expect(store.rows.namespaces.has([A])).toBe(true)
})

test('an id can be used once, must be one, and is free after a delete', async () => {
  await using store = openTestStore()
  const sandboxes = createSandboxes(store)
  await sandboxes.create(A, sandbox('pod'))

  await expect(sandboxes.create(A, sandbox('pod'))).rejects.toMatchObject({ code: 'already-exists' })
  await expect(sandboxes.create(A, sandbox('../x'))).rejects.toMatchObject({ code: 'invalid-argument' })
  await sandboxes.delete(A, 'pod')
  await expect(sandboxes.delete(A, 'pod')).rejects.toMatchObject({ code: 'not-found' })
  await expect(sandboxes.update(A, sandbox('pod'), [])).rejects.toMatchObject({ code: 'not-found' })
  await sandboxes.create(A, sandbox('pod'))
})

test('an update changes what its mask names, or all but the runtime', async () => {
  await using store = openTestStore()
  const sandboxes = createSandboxes(store)
  await sandboxes.create(A, sandbox('pod', { labels: { x: '1', y: '2' }, extensions: { e: any('1') } }))
  const next = sandbox('pod', { labels: { y: '3' }, extensions: { e: any('2'), f: any('3') }, spec: any('spec') })

  expect(await sandboxes.update(A, next, ['labels.y', 'extensions.f'])).toMatchObject({
    labels: { x: '1', y: '3' },
    extensions: { e: any('1'), f: any('3') },
    updatedAt: timestamp(1001),
  })
  expect((await sandboxes.update(A, next, ['labels.x'])).labels).toEqual({ y: '3' })
  expect(await sandboxes.update(A, next, [])).toMatchObject({ labels: { y: '3' }, spec: any('spec') })
  await expect(sandboxes.update(A, sandbox('pod', { runtime: { name: 'other' } }), [])).rejects.toThrow('cannot change')
  await expect(sandboxes.update(A, next, ['sandboxer'])).rejects.toMatchObject({ code: 'invalid-argument' })
})

test('a list is filtered by id and labels', async () => {
  await using store = openTestStore()
  const sandboxes = createSandboxes(store)
  for (const id of ['one', 'two']) await sandboxes.create(A, sandbox(id))
  const ids = (...filters: string[]) => sandboxes.list(A, filters).map(({ sandboxId }) => sandboxId)

  expect(ids()).toEqual(['one', 'two'])
  expect(ids('id==two')).toEqual(['two'])
  expect(ids('labels.x==one')).toEqual(['one'])
  expect(() => ids('[')).toThrow()
})
