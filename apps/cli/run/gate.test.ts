import { PassThrough } from 'node:stream'
import { expect, test } from 'vitest'
import { createGate } from './gate.ts'

test('what is written before the gate opens comes first', async () => {
  const to = new PassThrough()
  const gate = createGate(to)

  gate.stream.write('a')
  gate.stream.write('b')
  expect(to.read()).toBeNull()
  gate.open()
  gate.stream.write('c')
  await gate.finish()

  expect(String(to.read())).toBe('abc')
})

test('a gate that is dropped swallows all of it and never blocks', async () => {
  const to = new PassThrough()
  const gate = createGate(to)
  gate.stream.write(Buffer.alloc(100_000))

  gate.drop()
  gate.stream.write('more')
  await gate.finish()

  expect(to.read()).toBeNull()
})
