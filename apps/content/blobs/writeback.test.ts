import { setImmediate as turn } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { createWriteback } from './writeback.ts'

const MIB = 1024 * 1024

function syncing() {
  const calls: PromiseWithResolvers<void>[] = []
  const datasync = () => {
    const call = Promise.withResolvers<void>()
    calls.push(call)
    return call.promise
  }
  return { calls, file: { datasync } }
}

test('a file goes to disk in steps, one at a time, and a small one is left alone', async () => {
  const { calls, file } = syncing()
  const writeback = createWriteback(file)
  writeback.grown(7 * MIB)
  await writeback.settled()
  expect(calls.length).toBe(0)
  writeback.grown(8 * MIB)
  writeback.grown(30 * MIB) // while the first one is on its way
  expect(calls.length).toBe(1)
  calls[0]?.resolve()
  await writeback.settled()
  writeback.grown(31 * MIB)
  expect(calls.length).toBe(2)

  let settled = false
  const waiting = writeback.settled().then(() => (settled = true))
  await turn()
  expect(settled).toBe(false)
  calls[1]?.resolve()
  await waiting
  writeback.flush()
  expect(calls.length).toBe(3)
  calls[2]?.resolve()
  await writeback.settled()
})

test('a failure on the way is not forgotten: the kernel tells it only once', async () => {
  const { calls, file } = syncing()
  const writeback = createWriteback(file)
  writeback.grown(8 * MIB)
  calls[0]?.reject(new Error('EIO'))
  await expect(writeback.settled()).rejects.toThrow('EIO')
  await expect(writeback.settled()).rejects.toThrow('EIO')
})
