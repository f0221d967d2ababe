import { expect, test } from 'vitest'
import { createSaver } from './saver.ts'

function open() {
  const file = Buffer.alloc(20, '.')
  const said: unknown[] = []
  const saver = createSaver({
    resume: () => said.push('resume'),
    told: (bytes) => said.push(bytes),
    ended: (error) => said.push(error ?? 'end'),
  })
  const write = (data: Uint8Array, at: number): void => void file.set(data, at)
  return { file, said, saver, write }
}

test('what comes before anybody knows where to waits, then all goes to its place', () => {
  const { file, said, saver, write } = open()
  expect(saver.put(Buffer.from('abc'))).toBe(false)
  expect(said).toEqual([])
  saver.begin({ at: 5, skip: 0, limit: 6, write })
  expect(saver.put(Buffer.from('def'))).toBe(true)
  saver.end()
  saver.end(new Error('too late'))
  saver.put(Buffer.from('too late'))

  expect(file.toString()).toBe('.....abcdef.........')
  expect(said).toEqual(['resume', 6, 'end'])
})

test('bytes before and behind the wanted ones are counted and not written', () => {
  const { file, said, saver, write } = open()
  saver.begin({ at: 1, skip: 4, limit: 3, write })
  saver.put(Buffer.from('xx'))
  saver.put(Buffer.from('xxabc'))
  saver.put(Buffer.from('yy'))
  saver.end()

  expect(file.toString()).toBe('.abc................')
  expect(said).toEqual(['resume', 9, 'end'])
})

test('a body that broke off before it was wanted is written, and the error comes last', () => {
  const { file, said, saver, write } = open()
  saver.put(Buffer.from('abc'))
  const error = new Error('reset')
  saver.end(error)
  saver.begin({ at: 0, skip: 0, limit: 10, write })

  expect(file.toString()).toBe('abc.................')
  expect(said).toEqual([3, error])
})
