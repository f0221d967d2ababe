import { randomBytes } from 'node:crypto'
import { expect, test } from 'vitest'
import { createBatches } from './batches.ts'

const MIB = 1024 * 1024

test('all bytes come out in order, whoever is slower, and only a few pieces are ever in memory', async () => {
  const bytes = randomBytes(10 * MIB + 12_345)
  let room = Promise.withResolvers<void>()
  const batches = createBatches(bytes.length, () => room.resolve())
  const memory = new Set<ArrayBufferLike>()
  const received: Buffer[] = []
  const sending = (async () => {
    for (let at = 0; at < bytes.length; at += 300_000) {
      room = Promise.withResolvers()
      if (!batches.put(bytes.subarray(at, at + 300_000))) await room.promise
    }
    batches.end()
  })()
  for await (const piece of batches.pieces) {
    memory.add(piece.buffer)
    received.push(Buffer.from(piece))
  }
  await sending

  expect(Buffer.concat(received).equals(bytes)).toBe(true)
  expect(received.length).toBe(11)
  expect(memory.size).toBeLessThanOrEqual(3)
})

test('whoever waits gets what there is, however little', async () => {
  const batches = createBatches(undefined, () => undefined)
  const pieces = batches.pieces[Symbol.asyncIterator]()
  const first = pieces.next()
  batches.put(Buffer.from('one'))
  batches.put(Buffer.from('two'))

  expect(Buffer.from((await first).value).toString()).toBe('onetwo')
})

test('what came before an error is handed over, and then the error', async () => {
  const batches = createBatches(100, () => undefined)
  batches.put(Buffer.from('one'))
  batches.end(new Error('broken'))
  const received: string[] = []
  const reading = (async () => {
    for await (const piece of batches.pieces) received.push(Buffer.from(piece).toString())
  })()

  await expect(reading).rejects.toThrow('broken')
  expect(received).toEqual(['one'])
})

test('a body may be longer than it was said to be: whoever reads it sees that', async () => {
  const batches = createBatches(2, () => undefined)
  batches.put(Buffer.from('longer'))
  batches.end()
  let text = ''
  for await (const piece of batches.pieces) text += Buffer.from(piece).toString()
  expect(text).toBe('longer')
})
