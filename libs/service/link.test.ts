import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { pino } from 'pino'
import { expect, test } from 'vitest'
import { createLink, type Link } from './link.ts'

setFlagsFromString('--expose-gc')
const collect: () => void = runInNewContext('gc')

test('who gave up waiting for a server that is away is forgotten, who goes on hears of the end', {
  timeout: 30_000,
}, async () => {
  const [url, app, address] = ['nats://127.0.0.1:1', 'content', '/none'] as const
  const limits = { urlFile: '/none', tokenFile: undefined, maxAgeH: 1, maxBytes: 1024 ** 2 }
  const link = createLink({ url, ...limits, instance: { app, address } }, pino({ level: 'silent' }))
  const patient = link.next(new AbortController().signal)
  const gone: WeakRef<object>[] = []

  for (let n = 0; n < 10; n++) gone.push(await giveUp(link))

  await expect
    .poll(
      () => {
        collect()
        return gone.filter((signal) => signal.deref()).length
      },
      { timeout: 20_000 },
    )
    .toBe(0)
  await Promise.all([expect(patient).rejects.toMatchObject({ code: 'unavailable' }), link.close()])
  await expect(link.next(new AbortController().signal)).rejects.toMatchObject({ code: 'unavailable' })
})

async function giveUp(link: Link): Promise<WeakRef<object>> {
  const abort = new AbortController()
  const waiting = link.next(abort.signal).then(
    () => 'a session',
    () => 'nothing',
  )
  abort.abort()
  expect(await waiting).toBe('nothing') // not `rejects`: that keeps what it is given
  return new WeakRef(abort.signal)
}
