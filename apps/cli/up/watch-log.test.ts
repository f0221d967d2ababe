import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Status } from '@gantry/api/gantry/status/v1/status_pb'
import { listen } from '@gantry/rpc/server'
import { bind } from '@gantry/rpc/service'
import { expect, test, vi } from 'vitest'
import { watchLog } from './watch-log.ts'

const LOOK_MS = 5
const bus = { server: '127.0.0.1:4222', version: '2' }

/** Watches while a service says `buses` of its bus, one after the other and the last for ever. Answers how many looks were taken before each restart. */
async function restartsOf(
  buses: (typeof bus | undefined)[],
  { listening, restarts }: { listening: boolean; restarts: number },
) {
  const dir = mkdtempSync(join(tmpdir(), 'gantry-watch-'))
  const socket = join(dir, 'metadata.sock')
  let looks = 0
  const answer = async () => {
    const now = buses[Math.min(looks++, buses.length - 1)]
    return now ? { bus: now } : {}
  }
  const found: number[] = []
  const stop = new AbortController()
  {
    await using _ = await listen({
      address: socket,
      bindings: [bind(Status, { get: answer })],
      log: { error() {}, debug() {} },
    })
    const parts = { socket, isListening: async () => listening, restart: () => void found.push(looks) }
    const watching = watchLog(parts, stop.signal, LOOK_MS)
    await vi.waitFor(() => expect(restarts > 0 ? found.length : looks).toBeGreaterThanOrEqual(restarts || 20), 20_000)
    stop.abort()
    await watching
  }
  rmSync(dir, { recursive: true })
  return found
}

test('a log that does not answer is started again, later each time while that does not help', async () => {
  expect(await restartsOf([bus, undefined], { listening: true, restarts: 3 })).toEqual([6, 16, 36])
})

test('a log that comes back by itself, one that is there, and a server that does not listen are left alone', async () => {
  const [away, here] = [undefined, bus]
  expect(
    await restartsOf([away, away, away, away, here, away, away, away, away, here], { listening: true, restarts: 0 }),
  ).toEqual([])
  expect(await restartsOf([away], { listening: false, restarts: 0 })).toEqual([])
})
