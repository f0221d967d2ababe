import { expect, test } from 'vitest'
import { createTurns } from './turns.ts'

const forever = new AbortController().signal

/** Takes turns under names, and notes who works. */
function players(size: number) {
  const turns = createTurns(size)
  const working: string[] = []
  const take = (name: string, isFirst = false) => void turns.take(isFirst, forever).then(() => working.push(name))
  const settled = () => new Promise((resolve) => setImmediate(resolve))
  return { turns, working, take, settled }
}

test('so many work at a time, the others in their order, and what finishes something before them', async () => {
  const { turns, working, take, settled } = players(2)

  for (const name of ['a', 'b', 'c', 'd']) take(name)
  take('settle', true)
  await settled()
  expect([[...working], turns.waiting(), turns.isFree()]).toEqual([['a', 'b'], 3, false])

  for (let count = 0; count < 5; count++) turns.give()
  await settled()
  expect([working, turns.waiting(), turns.isFree()]).toEqual([['a', 'b', 'settle', 'c', 'd'], 0, true])
})

test('whoever insists works at once, and the next turn comes only when there is room again', async () => {
  const { turns, working, take, settled } = players(1)

  take('follows')
  await settled()
  turns.give() // it waits for the network
  take('a')
  take('b')
  await settled()
  turns.insist() // its bytes have come
  turns.give() // a ends
  await settled()
  expect(working).toEqual(['follows', 'a'])

  turns.give()
  await settled()
  expect(working).toEqual(['follows', 'a', 'b'])
})

test('too many are told to come back', async () => {
  const { turns, take } = players(1)
  for (let count = 0; count <= 1024; count++) take('one')

  await expect(turns.take(false, forever)).rejects.toMatchObject({ code: 'resource-exhausted' })
})

test('whoever gives up waits no more, and keeps no turn from others', async () => {
  const { turns, working, take, settled } = players(1)
  const [early, late] = [new AbortController(), new AbortController()]
  take('a')
  const given = turns.take(false, early.signal)
  const taken = turns.take(false, late.signal)
  take('b')

  early.abort()
  await expect(given).rejects.toMatchObject({ code: 'cancelled' })
  expect(turns.waiting()).toBe(2)

  turns.give()
  late.abort() // too late: it has its turn
  await taken
  turns.give()
  await settled()
  expect(working).toEqual(['a', 'b'])
  turns.give()
  expect(turns.isFree()).toBe(true)
})
