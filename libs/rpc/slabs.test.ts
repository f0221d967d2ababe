import { expect, test } from 'vitest'
import { createSlabs } from './slabs.ts'

const LARGE = 100_000 // bytes

function view(slab: Uint8Array, from: number, to: number): Buffer {
  return Buffer.from(slab.buffer, slab.byteOffset + from, to - from)
}

test('what is held stays as it is until it is released, and then is used again', () => {
  const slabs = createSlabs()
  const first = slabs.next()
  const one = slabs.hold(view(first, 0, LARGE))
  const other = slabs.hold(view(first, LARGE, 2 * LARGE))

  const second = slabs.next()
  one.release()
  const third = slabs.next()
  slabs.hold(view(third, 0, LARGE))
  other.release()
  const fourth = slabs.next()

  expect(second).not.toBe(first)
  expect(third).toBe(second) // nobody held a part of it
  expect(fourth).toBe(first)
})

test('a small piece is a copy: it keeps no slab', () => {
  const slabs = createSlabs()
  const slab = slabs.next().fill(1)
  const { bytes } = slabs.hold(view(slab, 0, 10))

  expect(slabs.next().fill(2)).toBe(slab)
  expect(bytes).toEqual(Buffer.alloc(10, 1))
})
