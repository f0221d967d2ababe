import { sha256Of } from '@gantry/model/digest'
import { parseNamespace } from '@gantry/model/namespace'
import { expect, test } from 'vitest'
import { createGrowing } from './growing.ts'

const NS = parseNamespace('default')
const A = sha256Of('a')
const none = new AbortController().signal

test('who waits sees a blob grow, and that it is over', async () => {
  const growing = createGrowing()
  expect(await growing.next(NS, A, undefined, none)).toBe(undefined)
  const grower = growing.expect(NS, A)
  const announced = await growing.next(NS, A, undefined, none)
  expect(announced).toEqual({ path: undefined, bytes: 0n, attempt: 0 })

  const waiting = [growing.next(NS, A, announced, none), growing.next(NS, A, announced, none)]
  grower.grown('/file', 5n)
  const [seen, same] = await Promise.all(waiting)
  expect(seen).toEqual({ path: '/file', bytes: 5n, attempt: 0 })
  expect(same).toBe(seen)

  const further = growing.next(NS, A, seen, none)
  grower.grown('/file', 5n) // no news
  grower.grown('/file', 9n)
  const last = await further
  expect(last?.bytes).toBe(9n)
  const over = growing.next(NS, A, last, none)
  grower[Symbol.dispose]()
  expect(await over).toBe(undefined)
})

test('whoever comes late sees at once how far it is, and other namespaces see nothing', async () => {
  const growing = createGrowing()
  using grower = growing.expect(NS, A)
  grower.grown('/file', 5n)

  expect(await growing.next(NS, A, undefined, none)).toBe(growing.find(NS, A))
  expect(growing.find(parseNamespace('other'), A)).toBe(undefined)
})

test('a blob that is fetched again from its start is another attempt, and one that two bring ends with the second', async () => {
  const growing = createGrowing()
  const [one, two] = [growing.expect(NS, A), growing.expect(NS, A)]
  one.grown('/file', 5n)
  one.restart()
  one[Symbol.dispose]()
  expect(growing.find(NS, A)).toEqual({ path: undefined, bytes: 0n, attempt: 1 })
  two.grown('/other', 7n)
  expect(growing.find(NS, A)).toEqual({ path: '/other', bytes: 7n, attempt: 1 })
  two[Symbol.dispose]()
  expect(growing.find(NS, A)).toBe(undefined)
})

test('waiting ends with the signal', async () => {
  const growing = createGrowing()
  using _ = growing.expect(NS, A)
  const stop = new AbortController()
  const waiting = growing.next(NS, A, growing.find(NS, A), stop.signal)
  stop.abort(new Error('no more'))
  await expect(waiting).rejects.toThrow('no more')
})
