import { setImmediate as turn } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { createJobs } from './jobs.ts'

const none = new AbortController().signal

test('a slot is to spare while no job has it, and until it is given back', async () => {
  const jobs = createJobs(2, none)
  const begun: string[] = []
  const end = Promise.withResolvers<void>()
  const first = jobs.run(() => end.promise)
  const spare = jobs.spare()
  expect([spare !== undefined, jobs.spare()]).toEqual([true, undefined])
  const second = jobs.run(async () => void begun.push('second'))
  await turn()
  expect(begun).toEqual([])
  spare?.[Symbol.dispose]()
  await second
  expect(begun).toEqual(['second'])
  end.resolve()
  await first
})

test('a job that gives its slot back early lets one other job begin, and no more', async () => {
  const jobs = createJobs(1, none)
  const [first, second] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const begun: string[] = []
  const running = [
    jobs.run(async (_, release) => {
      begun.push('first')
      release()
      release()
      await first.promise
    }),
    jobs.run(async () => {
      begun.push('second')
      await second.promise
    }),
    jobs.run(async () => void begun.push('third')),
  ]
  await turn()
  expect(begun).toEqual(['first', 'second'])
  first.resolve()
  await turn()
  expect(begun).toEqual(['first', 'second'])
  second.resolve()
  await Promise.all(running)
  expect(begun).toEqual(['first', 'second', 'third'])
})
