import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { identify } from '@gantry/linux/process'
import { listen } from '@gantry/rpc/server'
import { statusBinding } from '@gantry/service/status-service'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { readNode } from './node-status.ts'

const log = { error: () => undefined, debug: () => undefined }
const signal = AbortSignal.timeout(20_000)

let state = ''
beforeEach(() => {
  state = mkdtempSync(join(tmpdir(), 'gs-'))
})
afterEach(() => rmSync(state, { recursive: true }))

test('each process tells of itself, those that are away are named, and gantry up knows of restarts', async () => {
  const own = identify(process.pid)
  const processes = [
    { name: 'content', ...own, restarts: 2, lastEnd: 'signal SIGKILL' },
    { name: 'nats', ...own },
  ]
  writeFileSync(join(state, 'up.processes'), JSON.stringify(processes))
  writeFileSync(join(state, 'metadata.sock'), '')
  const bus = { server: { server: '127.0.0.1:4222', version: '2.9.10' } }
  const binding = statusBinding('content', { bus, eventsBehind: () => 7 })
  await using _server = await listen({ address: join(state, 'content.sock'), bindings: [binding], log })

  const all = await readNode({ gateway: join(state, 'gantry.sock'), state }, signal)
  const byName = Object.fromEntries(all.map((status) => [status.name, status]))

  expect(Object.keys(byName)).toEqual(['gateway', 'metadata', 'content', 'snapshots', 'tasks', 'nats'])
  expect(byName.content).toMatchObject({
    ...{ health: 'serving', version: '0.1.0', pid: process.pid, restarts: 2, lastEnd: 'signal SIGKILL' },
    ...{ eventsBehind: 7, bus: true, address: join(state, 'content.sock'), memory: expect.any(Number) },
  })
  expect(byName.gateway).toMatchObject({ health: 'away', reason: 'there is no such socket' })
  expect(byName.metadata).toMatchObject({ health: 'away', reason: 'nobody listens there' })
  expect(byName.nats).toMatchObject({ health: 'serving', address: '127.0.0.1:4222', version: '2.9.10', restarts: 0 })
})
