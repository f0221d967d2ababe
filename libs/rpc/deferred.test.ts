import { expect, test } from 'vitest'
import { deferred } from './deferred.ts'

interface Calls {
  one(n: number): Promise<number>
  many(n: number): AsyncIterable<number>
}

function counted(calls: Calls): { calls: Calls; loads: () => number } {
  let loads = 0
  const load = async () => {
    loads++
    return calls
  }
  return { calls: deferred<Calls>(load, { many: true }), loads: () => loads }
}

test('nothing is loaded before the first call, and once for all', async () => {
  const { calls, loads } = counted({
    one: async (n) => n + 1,
    async *many(n) {
      for (let at = 0; at < n; at++) yield at
    },
  })

  expect(await Promise.resolve(calls)).toBe(calls) // whoever awaits it by mistake makes no call
  expect(loads()).toBe(0)
  expect([await calls.one(1), await calls.one(2)]).toEqual([2, 3])
  expect(await Array.fromAsync(calls.many(3))).toEqual([0, 1, 2])
  expect(loads()).toBe(1)
})

test('a stream that nobody reads to its end is ended where it is made', async () => {
  let ended = false
  const { calls } = counted({
    one: async (n) => n,
    async *many() {
      try {
        for (let at = 0; ; at++) yield at
      } finally {
        ended = true
      }
    },
  })

  for await (const n of calls.many(0)) if (n === 2) break

  expect(ended).toBe(true)
})

test('a call that does not exist, and code that cannot be loaded, fail the caller', async () => {
  const { calls } = counted({ one: async (n) => n, many: async function* () {} })
  const broken = deferred<Calls>(() => Promise.reject(new Error('no such file')), { many: true })

  await expect((calls as unknown as { two(): Promise<void> }).two()).rejects.toThrow('There is no call "two"')
  await expect(broken.one(1)).rejects.toThrow('no such file')
  await expect(Array.fromAsync(broken.many(1))).rejects.toThrow('no such file')
})
