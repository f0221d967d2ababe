import { RESTART_POLICY, RESTART_STATUS } from '@gantry/model/restart'
import { expect, test, vi } from 'vitest'
import { createMonitor, type MonitorParts } from './monitor.ts'

test('a task that somebody else has made meanwhile is left alone', async () => {
  const labels = { [RESTART_STATUS]: 'running', [RESTART_POLICY]: 'always' }
  const container = { id: 'box', labels, snapshotKey: '' }
  let life: object = { status: 'stopped', exit: { status: 1, atMs: 0 } }
  const tasks = { find: () => ({ life }), deleteTask: vi.fn(), create: vi.fn() }
  const update = vi.fn(async () => {
    life = { status: 'created' } // deleted and made anew by a client
  })
  const parts = {
    ...{ tasks, containers: { get: async () => ({ container }), list: async () => ({ containers: [] }), update } },
    namespaces: { list: async () => ({ namespaces: [] }) },
    ...{ now: Date.now, log: { warn: vi.fn() } },
  }
  using monitor = createMonitor(parts as unknown as MonitorParts)

  monitor.ended('test', 'box')

  await vi.waitFor(() => expect(update).toHaveBeenCalled(), 10_000)
  await new Promise(setImmediate)
  expect(tasks.deleteTask).not.toHaveBeenCalled()
  expect(tasks.create).not.toHaveBeenCalled()
})
