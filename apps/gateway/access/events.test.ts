import { expect, test } from 'vitest'
import { eventsWithin } from './events.ts'

const rights = { everything: false, some: { read: true, write: true }, may: () => true, lends: () => false }
const called = (name: string) => ({ kind: 'unknown', name }) as const
const MAX_SUBSCRIPTIONS = 256

test('a caller has so many subscriptions and no more, whatever connection they come over; others have their own', () => {
  const ask = (name: string) => eventsWithin(() => rights, called(name)).subscribe()
  const mine = Array.from({ length: MAX_SUBSCRIPTIONS }, () => ask('me'))

  expect(() => ask('me')).toThrow('me has 256 subscriptions already')
  using _ = ask('you')
  mine.pop()?.[Symbol.dispose]()
  mine.push(ask('me'))

  expect(() => ask('me')).toThrow('Cannot subscribe')
  using __ = eventsWithin(() => ({ ...rights, everything: true }), called('me')).subscribe()
  for (const each of mine) each[Symbol.dispose]()
})
