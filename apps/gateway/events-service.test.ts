import type { CallContext } from '@gantry/rpc/context'
import type { Bus, LogStart } from '@gantry/service/bus'
import { expect, test } from 'vitest'
import { eventsService } from './events-service.ts'

/** Where the log is read from for a header. */
async function startOf(header: string | undefined): Promise<LogStart | undefined> {
  let start: LogStart | undefined
  const bus = {
    read({ from }: { from: LogStart }) {
      start = from
      return []
    },
  } as unknown as Bus
  const context = { header: () => header, signal: AbortSignal.timeout(1000) } as unknown as CallContext
  await Array.fromAsync(eventsService(bus).subscribe({ filters: [] } as never, context))
  return start
}

test.each<[string | undefined, LogStart]>([
  [undefined, 'new'],
  ['new', 'new'],
  ['0', 0],
  ['17', 17],
  ['2001-02-03T04:05:06Z', new Date('2001-02-03T04:05:06Z')],
  ['2001-02-03t04:05:06.7+08:00', new Date('2001-02-02T20:05:06.7Z')],
  ['0001-01-01T00:00:00Z', new Date(0)],
  ['9999-12-31T23:59:59Z', 'new'], // the server takes it for one long ago
])('a replay from %j begins there', async (header, start) => {
  expect(await startOf(header)).toEqual(start)
})

test.each(['', '-1', '1e3', 'garbage', '2001-02-03', '2001-02-03T04:05', '2001-02-29T04:05:06Z', '9'.repeat(16)])(
  'a replay from %j is refused',
  async (header) => {
    await expect(startOf(header)).rejects.toMatchObject({ code: 'invalid-argument' })
  },
)
