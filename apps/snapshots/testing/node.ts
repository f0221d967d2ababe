import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Diff } from '@gantry/api/containerd/services/diff/v1/diff_pb'
import { Leases } from '@gantry/api/containerd/services/leases/v1/leases_pb'
import { Snapshots } from '@gantry/api/containerd/services/snapshots/v1/snapshots_pb'
import { Blobs } from '@gantry/api/gantry/content/v1/blobs_pb'
import { Owner } from '@gantry/api/gantry/owner/v1/owner_pb'
import { Unpack } from '@gantry/api/gantry/snapshots/v1/unpack_pb'
import { mountsUnder } from '@gantry/linux/mount'
import type { Digest } from '@gantry/model/digest'
import { Fault } from '@gantry/model/fault'
import { type Client, clientOf, connect } from '@gantry/rpc/client'
import { listen } from '@gantry/rpc/server'
import { bind, unimplemented } from '@gantry/rpc/service'
import type { Changes } from '@gantry/service/changes'
import { jsonCodec } from '@gantry/store/codec'
import { openStore, type Store } from '@gantry/store/store'
import { createApply } from '../diff/apply.ts'
import { createDiff } from '../diff/diff.ts'
import { createProcessors, type Processor } from '../diff/processors.ts'
import { clearTargets } from '../diff/target.ts'
import { diffService } from '../diff-service.ts'
import type { Driver } from '../drivers/driver.ts'
import { createNative } from '../drivers/native.ts'
import { createOverlayfs } from '../drivers/overlayfs.ts'
import { createProxy, type RemoteRow } from '../drivers/proxy.ts'
import { DEFAULT_LIMITS } from '../extract/limits.ts'
import { createPool } from '../extract/pool.ts'
import { createLayers } from '../layers.ts'
import { createLeaseHolder } from '../leases.ts'
import { ownerService } from '../owner-service.ts'
import { rowsOf } from '../rows.ts'
import { createSnapshots } from '../snapshots.ts'
import { snapshotsService } from '../snapshots-service.ts'
import { chooseUnpack, createStepwise } from '../stepwise.ts'
import { createUnpack } from '../unpack.ts'
import { unpackService } from '../unpack-service.ts'
import { addressOf } from '../wire.ts'
import { type PlayedBlob, playContent } from './content.ts'
import type { GrowingBlob } from './growing.ts'

const log = { error() {}, debug() {} }

/** This process on real sockets, folders and records; metadata and content are played. Disposing checks for leaked mounts. */
export interface TestNode extends AsyncDisposable {
  readonly root: string
  /** Its socket. */
  readonly address: string
  readonly snapshots: Client<typeof Snapshots>
  readonly diff: Client<typeof Diff>
  readonly unpack: Client<typeof Unpack>
  readonly owner: Client<typeof Owner>
  /** What happened, in order: `/snapshot/prepare box`, `lease keep: snapshots/overlayfs box`. */
  readonly heard: string[]
  /** Puts bytes where content keeps a blob. */
  addBlob(bytes: Buffer): Digest
  /** Puts bytes where content keeps a blob that it has only begun to bring. */
  growBlob(bytes: Buffer): GrowingBlob
  /** What Diff has stored: bytes, and labels. */
  blob(digest: string): PlayedBlob
}

/**
 * @param at the folder of an earlier node, whose records and folders are taken over; disposing keeps it then
 * @param remote the socket of snapshots of another process, which are `far` here
 */
export async function startNode(at?: string, programs: readonly Processor[] = [], remote?: string): Promise<TestNode> {
  const base = at ?? mkdtempSync(join(tmpdir(), 'gantry-node-'))
  const heard: string[] = []
  const stack = new AsyncDisposableStack()
  stack.defer(() => {
    const leaked = mountsUnder(base)
    if (leaked.length > 0) throw new Error(`Mounts were left: ${leaked.join(', ')}`)
    if (at === undefined) rmSync(base, { recursive: true })
  })
  const others = stack.use(await playOthers(base, heard))
  const store = stack.use(openStore(join(base, 'records')))
  const pool = stack.use(createPool(2))
  const syncs = stack.use(createPool(1))
  const mounters = stack.use(createPool(1))
  const root = join(base, 'overlayfs')
  const driver = createOverlayfs({ root, pool, mountOptions: [], slowChown: false, report() {} })
  const native = createNative({ root: join(base, 'native'), pool, report() {} })
  const far = remote === undefined ? [] : [farAway(remote, store, stack)]
  const drivers = [driver, native, ...far]
  const leases = createLeaseHolder(others.channel)
  const rows = rowsOf(store)
  const snapshots = await createSnapshots({ rows, changes: changesOf(store, heard), drivers, leases, clock: Date.now })
  const mountRoot = join(base, 'mounts')
  clearTargets(mountRoot)
  const processors = createProcessors({
    processors: programs,
    folder: join(base, 'processed'),
    maxBytes: 1e7,
    searchPath: '/usr/bin:/bin',
  })
  const apply = createApply({
    content: others.channel,
    pool,
    processors,
    limits: DEFAULT_LIMITS,
    mountRoot,
    mounters,
    owns: (path) => drivers.some(({ owns }) => owns(path)),
  })
  const diff = createDiff({ content: others.channel, pool, mountRoot, mounters })
  const parts = { content: others.channel, pool, syncs, processors, limits: DEFAULT_LIMITS, mountRoot, mounters }
  const layers = createLayers(parts)
  const addressing = addressOf({ drivers: drivers.map(({ name }) => name), exported: { gantry: 'overlayfs' } })
  const unpack = chooseUnpack(snapshots, {
    sideBySide: createUnpack({ snapshots, layers, leases }),
    stepwise: createStepwise({ content: others.channel, snapshots, apply, leases }),
  })
  const address = join(base, 'snapshots.sock')
  const bindings = [
    bind(Snapshots, snapshotsService(snapshots, addressing)),
    bind(Diff, diffService({ apply, diff })),
    bind(Unpack, unpackService(unpack, addressing)),
    bind(Owner, ownerService(snapshots)),
  ]
  stack.use(await listen({ address, bindings, log }))
  const channel = stack.use(connect(address))
  return {
    root,
    address,
    snapshots: clientOf(Snapshots, channel),
    diff: clientOf(Diff, channel),
    unpack: clientOf(Unpack, channel),
    owner: clientOf(Owner, channel),
    heard,
    addBlob: others.addBlob,
    growBlob: others.growBlob,
    blob: others.blob,
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  }
}

function farAway(address: string, store: Store, stack: AsyncDisposableStack): Driver {
  const channel = stack.use(connect(address))
  const known = { table: store.table('remotes', jsonCodec<RemoteRow>()), write: store.write }
  const parts = { name: 'far', address, remoteName: 'gantry', capabilities: ['rebase'], channel, report() {} }
  return stack.use(createProxy({ ...parts, ...known }))
}

function changesOf(store: Store, heard: string[]): Changes {
  return {
    async write(fn) {
      const events: string[] = []
      const result = await store.write(() =>
        fn((_, topic, __, init) => events.push(`${topic} ${JSON.stringify(init)}`)),
      )
      heard.push(...events)
      return result
    },
    async [Symbol.asyncDispose]() {},
  }
}

/** Metadata knows one lease, `keep`; content knows what was added and written. */
async function playOthers(base: string, heard: string[]) {
  const folder = join(base, 'blobs')
  mkdirSync(folder, { recursive: true })
  const played = playContent(folder)
  const no = unimplemented('this')
  const leases = bind(Leases, {
    async addResource({ id, resource }) {
      if (id !== 'keep') throw new Fault('not-found', `lease ${id}: not found`)
      heard.push(`lease ${id}: ${resource?.type} ${resource?.id}`)
      return {}
    },
    async deleteResource({ id, resource }) {
      heard.push(`lease ${id} lets go: ${resource?.type} ${resource?.id}`)
      return {}
    },
    create: no,
    delete: no,
    list: no,
    listResources: no,
  })
  const content = bind(Blobs, {
    async locate({ digest }, { namespace }) {
      if (namespace !== 'test') throw new Fault('not-found', `content ${digest}: not found`)
      const { path, bytes } = played.blob(digest)
      return { path, size: BigInt(bytes.length) }
    },
    async *follow({ digest }, { namespace }) {
      if (namespace !== 'test') throw new Fault('not-found', `content ${digest}: not found`)
      yield* played.follow(digest)
    },
    verify: no,
  })
  const address = join(base, 'others.sock')
  const server = await listen({ address, bindings: [leases, content, played.binding], log })
  const channel = connect(address)
  return {
    channel,
    ...played,
    async [Symbol.asyncDispose]() {
      await channel[Symbol.asyncDispose]()
      await server[Symbol.asyncDispose]()
    },
  }
}
