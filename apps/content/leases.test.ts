import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Leases } from '@gantry/api/containerd/services/leases/v1/leases_pb'
import { Fault } from '@gantry/model/fault'
import { parseNamespace } from '@gantry/model/namespace'
import { connect } from '@gantry/rpc/client'
import { listen } from '@gantry/rpc/server'
import { bind, unimplemented } from '@gantry/rpc/service'
import { afterEach, expect, test } from 'vitest'
import { createLeases } from './leases.ts'

const NS = parseNamespace('default')
const silent = { error: () => undefined, debug: () => undefined }
const stack = new AsyncDisposableStack()

afterEach(() => stack.disposeAsync())

/** A metadata service with these leases; one that is not in `resources` is gone by the time it is asked for. */
async function withLeases(
  leases: { id: string; labels?: Record<string, string> }[],
  resources: Record<string, { type: string; id: string }[]>,
) {
  const root = await mkdtemp(join(tmpdir(), 'gantry-leases-'))
  stack.defer(() => rm(root, { recursive: true }))
  const no = unimplemented('this')
  const service = bind(Leases, {
    ...{ create: no, delete: no, addResource: no, deleteResource: no },
    list: async () => ({ leases }),
    listResources: async ({ id }) => {
      if (!resources[id]) throw new Fault('not-found', 'gone')
      return { resources: resources[id] }
    },
  })
  stack.use(await listen({ address: join(root, 's'), bindings: [service], log: silent }))
  return createLeases(stack.use(connect(join(root, 's'))), silent)
}

test('a lease that has expired or is gone holds nothing; one without a time, or with a malformed one, does', async () => {
  const at = (time: string) => ({ labels: { 'containerd.io/gc.expire': time } })
  const ids = ['expired', 'malformed', 'for-ever', 'gone'] as const
  const leases = await withLeases(
    [
      { id: 'gone' },
      { id: 'expired', ...at('2020-01-01T00:00:00Z') },
      { id: 'malformed', ...at('soon') },
      { id: 'for-ever' },
    ],
    {
      expired: [{ type: 'ingests', id: 'expired' }],
      malformed: [{ type: 'ingests', id: 'malformed' }],
      'for-ever': [
        { type: 'ingests', id: 'for-ever' },
        { type: 'content', id: 'gone' },
      ],
    },
  )

  const signal = AbortSignal.timeout(5000)
  const held = await Promise.all(ids.map((ingest) => leases.isHeld(NS, { ingest }, signal)))

  expect(held).toEqual([false, true, true, false])
})
