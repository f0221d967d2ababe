/** What the tests of this app share: the real folder and store, and a lease keeper that remembers what it was told. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create } from '@bufbuild/protobuf'
import { Fault } from '@gantry/model/fault'
import type { Emit } from '@gantry/service/changes'
import { openStore } from '@gantry/store/store'
import { createBlobs } from '../blobs/blobs.ts'
import { openFolder } from '../blobs/folder.ts'
import { createGrowing } from '../blobs/growing.ts'
import { createHashers, type Hashers } from '../blobs/hashers.ts'
import { createIngests, type Parts } from '../blobs/ingests.ts'
import { openRows } from '../blobs/rows.ts'
import type { Leases } from '../leases.ts'

/** A registry may be silent for this long, in ms. */
export const STALL_MS = 300

export async function openTestParts(options: { mayShare?: boolean; stallMs?: number } = {}) {
  const root = await mkdtemp(join(tmpdir(), 'gantry-content-'))
  const store = openStore(join(root, 'records'))
  const events: { namespace: string; topic: string; event: unknown }[] = []
  const emit: Emit = (namespace, topic, schema, init) => {
    events.push({ namespace, topic, event: create(schema, init) })
  }
  const leases = createTestLeases()
  const hashers = hashersFor(options.stallMs ?? STALL_MS)
  const parts: Parts = {
    rows: openRows(store),
    folder: openFolder(join(root, 'content')),
    hashers,
    changes: { write: (fn) => store.write(() => fn(emit)) },
    leases,
    mayShare: async (_digest, isolated) => (options.mayShare ?? true) && !isolated,
    now: Date.now,
  }
  return {
    ...parts,
    root,
    events,
    leases,
    blobs: createBlobs(parts),
    ingests: createIngests(parts),
    growing: createGrowing(),
    async [Symbol.asyncDispose]() {
      await store[Symbol.asyncDispose]()
      await rm(root, { recursive: true, force: true })
    },
  }
}

/** A thread for all tests of a file, which ends with it: to start one takes longer than most of them. */
function hashersFor(stallMs: number): Hashers {
  const proxy = { httpProxy: '', httpsProxy: '', noProxy: '' }
  const hashers = started.get(stallMs) ?? createHashers(1, { proxy, stallMs })
  started.set(stallMs, hashers)
  return hashers
}

const started = new Map<number, Hashers>()

export type TestParts = Awaited<ReturnType<typeof openTestParts>>

/** Knows the lease `held`, and those it made itself. */
function createTestLeases(): Leases & { readonly held: Map<string, Set<string>> } {
  const held = new Map([['held', new Set<string>()]])
  const nameOf = (thing: Parameters<Leases['add']>[1]) =>
    'content' in thing ? `content ${thing.content}` : `ingests ${thing.ingest}`
  const create = async () => {
    const id = `own-${held.size}`
    held.set(id, new Set())
    return { id, [Symbol.asyncDispose]: async () => void held.delete(id) }
  }
  const add: Leases['add'] = async ({ lease }, thing) => {
    if (lease === undefined) return
    const things = held.get(lease)
    if (!things) throw new Fault('not-found', `lease "${lease}": not found`)
    things.add(nameOf(thing))
  }
  return {
    held,
    create,
    take: create,
    add,
    async hold(holder, digests, signal) {
      for (const content of digests) await add(holder, { content }, signal)
    },
    async remove({ lease }, thing) {
      held.get(lease ?? '')?.delete(nameOf(thing))
    },
  }
}
