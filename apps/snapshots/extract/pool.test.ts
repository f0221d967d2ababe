import { expect, test, vi } from 'vitest'
import { createPool } from './pool.ts'

const host = vi.hoisted(() => ({ isFull: false }))
vi.mock('node:worker_threads', async (original) => {
  const threads = await original<typeof import('node:worker_threads')>()
  class Worker extends threads.Worker {
    constructor(...given: ConstructorParameters<typeof threads.Worker>) {
      if (host.isFull) throw new Error('EAGAIN')
      super(...given)
    }
  }
  return { ...threads, Worker }
})

test('a thread that the host refuses takes no turn from those that come later', async () => {
  await using pool = createPool(1)
  const sync = () => pool.run({ kind: 'sync', root: '/proc' }, AbortSignal.timeout(30_000))
  host.isFull = true
  await expect(sync()).rejects.toThrow('EAGAIN')

  host.isFull = false

  await sync()
}, 60_000)
