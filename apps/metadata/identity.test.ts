import { expect, test } from 'vitest'
import { inodeOf, openIdentity } from './identity.ts'
import { openTestStore } from './test-store.ts'

test('the uuid is made once and kept', async () => {
  await using store = openTestStore()

  const first = await openIdentity(store.rows, store.changes)
  const second = await openIdentity(store.rows, store.changes)

  expect(first.uuid).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  expect(second).toEqual(first)
})

test('the inode is what the link says between brackets', () => {
  expect(inodeOf('pid:[4026531836]')).toBe(4026531836n)
  expect(inodeOf('nonsense')).toBe(0n)
})
