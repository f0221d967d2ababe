import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Leases } from '@gantry/api/containerd/services/leases/v1/leases_pb'
import { Fault } from '@gantry/model/fault'
import { fieldsOf, parseFilters } from '@gantry/model/filter'
import { parseNamespace } from '@gantry/model/namespace'
import { connect } from '@gantry/rpc/client'
import { listen } from '@gantry/rpc/server'
import { bind, unimplemented } from '@gantry/rpc/service'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createLeases, type Leases as Keeper } from './leases.ts'

const NS = parseNamespace('default')
const silent = { error: () => undefined, debug: () => undefined }
const signal = AbortSignal.timeout(10_000)
let stack: AsyncDisposableStack
let there: Map<string, Record<string, string>> // labels of leases
let leases: Keeper
let open: () => Keeper

beforeEach(async () => {
  stack = new AsyncDisposableStack()
  there = new Map()
  const root = await mkdtemp(join(tmpdir(), 'gantry-leases-'))
  stack.defer(() => rm(root, { recursive: true }))
  const no = unimplemented('this')
  const service = bind(Leases, {
    ...{ listResources: no, addResource: no, deleteResource: no },
    async create({ id, labels }) {
      if (there.has(id)) throw new Fault('already-exists', 'it is there')
      const name = id === '' ? `made-${there.size}` : id
      there.set(name, labels)
      return { lease: { id: name } }
    },
    async list({ filters }) {
      const wanted = parseFilters(filters)
      const all = Array.from(there, ([id, labels]) => ({ id, labels }))
      return { leases: all.filter((lease) => wanted(fieldsOf(lease))) }
    },
    async delete({ id }) {
      await sleep(5)
      there.delete(id)
      return {}
    },
  })
  stack.use(await listen({ address: join(root, 's'), bindings: [service], log: silent }))
  open = () => createLeases(stack.use(connect(join(root, 's'))), silent)
  leases = open()
})
afterEach(() => stack.disposeAsync())

test('the same purpose has one lease, which is there until the last of its users has gone', async () => {
  const [one, two] = await Promise.all([leases.take(NS, 'pull a', signal), leases.take(NS, 'pull a', signal)])
  const other = await leases.take(NS, 'pull b', signal)

  expect(one.id).toBe(two.id)
  expect([...there.keys()].sort()).toEqual([one.id, other.id].sort())
  await one[Symbol.asyncDispose]()
  expect([...there.keys()]).toContain(one.id)
  await two[Symbol.asyncDispose]()
  expect([...there.keys()]).toEqual([other.id])
})

test('what a crash left is taken over and given back', async () => {
  const { id } = await leases.take(NS, 'pull a', signal) // by a process that never comes back

  const next = await open().take(NS, 'pull a', signal)
  expect(next.id).toBe(id)
  await next[Symbol.asyncDispose]()
  expect([...there.keys()]).toEqual([])
})

test('one that expires before the pull may be over is not gone on with, and given back too', async () => {
  const { id } = await leases.take(NS, 'pull a', signal)
  there.set(id, { 'containerd.io/gc.expire': new Date(Date.now() + 11 * 3600 * 1000).toISOString() })
  const keeper = open()

  const [next, another] = [await keeper.take(NS, 'pull a', signal), await keeper.take(NS, 'pull a', signal)]
  expect([...there.keys()]).toEqual([id, next.id, another.id])
  await next[Symbol.asyncDispose]()
  await another[Symbol.asyncDispose]()

  expect([...there.keys()]).toEqual([])
})

test('whoever takes it while it is given back has one', async () => {
  for (let round = 0; round < 20; round++) {
    const first = await leases.take(NS, 'pull a', signal)
    const leaving = first[Symbol.asyncDispose]()
    await sleep(round % 8)
    const second = await leases.take(NS, 'pull a', signal)
    await leaving

    expect([...there.keys()]).toEqual([second.id])
    await second[Symbol.asyncDispose]()
    expect([...there.keys()]).toEqual([])
  }
})
