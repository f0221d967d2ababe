import { Status } from '@gantry/api/containerd/types/task/task_pb'
import { MEDIA } from '@gantry/model/descriptor'
import { Fault } from '@gantry/model/fault'
import { expect, test } from 'vitest'
import { commitContainer } from './commit.ts'
import type { Container } from './containers.ts'
import type { Images } from './images.ts'
import type { Wire } from './wire.ts'

const digest = `sha256:${'0'.repeat(64)}`
const container = { id: 'box', image: 'a', snapshotter: 's', snapshotKey: 'box' } as Container
const images = { resolve: async () => ({ manifest: { digest, size: 1n } }) } as unknown as Images

/** What was called, of services that can only do this. */
function recorded(answers: Record<string, (request: unknown, options: { signal: AbortSignal }) => unknown>) {
  const calls: [string, unknown][] = []
  const service = (service: string) =>
    new Proxy(
      {},
      {
        get: (_, method) => (request: unknown, options: { signal: AbortSignal }) => {
          const name = `${service}.${String(method)}`
          calls.push([name, request])
          return answers[name]?.(request, options) ?? Promise.resolve({})
        },
      },
    )
  const services = new Proxy({}, { get: (_, name) => service(String(name)) })
  const wire = { services, call: (signal: AbortSignal, more: object) => ({ signal, ...more }) } as unknown as Wire
  const commit = (signal: AbortSignal) => commitContainer({ wire, images }, { container, reference: 'b' }, signal)
  return { calls, commit }
}

test('a container goes on when the commit is interrupted while it is being frozen', async () => {
  const stop = new AbortController()
  let status: Status = Status.RUNNING
  const { calls, commit } = recorded({
    'tasks.get': async () => ({ process: { status } }),
    // the server is at it, whether or not somebody waits for that
    'tasks.pause': (_, { signal }) =>
      new Promise((resolve, reject) => {
        signal.addEventListener('abort', () => reject(new Fault('cancelled', 'given up')))
        stop.abort()
        setTimeout(() => {
          status = Status.PAUSED
          resolve({})
        }, 5)
      }),
  })

  await expect(commit(stop.signal)).rejects.toThrow('aborted')

  expect(calls.map(([name]) => name)).toEqual([
    ...['leases.create', 'tasks.get', 'tasks.pause', 'tasks.get', 'tasks.resume', 'leases.delete'],
  ])
})

test('the layers below are held before they are looked at: the name of their image may go meanwhile', async () => {
  const { calls, commit } = recorded({
    'leases.create': async () => ({ lease: { id: 'lease' } }),
    'tasks.get': async () => ({}),
    'snapshots.stat': async () => ({ info: { parent: '' } }),
    'snapshots.mounts': async () => ({ mounts: [] }),
    'diff.diff': async () => ({ diff: { digest, mediaType: MEDIA.ociLayerGzip, size: 1n } }),
    'content.read': () => {
      throw new Fault('not-found', 'enough')
    },
  })

  await expect(commit(AbortSignal.timeout(20_000))).rejects.toThrow('enough')

  const before = calls.slice(
    0,
    calls.findIndex(([name]) => name === 'content.read'),
  )
  expect(before).toContainEqual(['leases.addResource', { id: 'lease', resource: { id: digest, type: 'content' } }])
})
