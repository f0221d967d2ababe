import { join } from 'node:path'
import { Diff } from '@gantry/api/containerd/services/diff/v1/diff_pb'
import { Mounts } from '@gantry/api/containerd/services/mounts/v1/mounts_pb'
import { Snapshots } from '@gantry/api/containerd/services/snapshots/v1/snapshots_pb'
import { Owner } from '@gantry/api/gantry/owner/v1/owner_pb'
import { Unpack } from '@gantry/api/gantry/snapshots/v1/unpack_pb'
import { goFirst } from '@gantry/linux/priority'
import { connect, connectOwner } from '@gantry/rpc/client'
import { listen } from '@gantry/rpc/server'
import { bind } from '@gantry/rpc/service'
import { connectBus } from '@gantry/service/bus'
import { openChanges } from '@gantry/service/changes'
import { loadConfig, socketOf } from '@gantry/service/config'
import { keepHeapSmall } from '@gantry/service/heap'
import { introspection } from '@gantry/service/plugins'
import { startProcess, stopped } from '@gantry/service/process'
import { repairBinding } from '@gantry/service/repair'
import { statusBinding } from '@gantry/service/status-service'
import { openTelemetry } from '@gantry/service/telemetry'
import { jsonCodec } from '@gantry/store/codec'
import { openStore } from '@gantry/store/store'
import { mountTable, openCollection } from './collect.ts'
import { Config } from './config.ts'
import { createApply } from './diff/apply.ts'
import { createDiff } from './diff/diff.ts'
import { createProcessors } from './diff/processors.ts'
import { clearTargets } from './diff/target.ts'
import { diffService } from './diff-service.ts'
import { createNative } from './drivers/native.ts'
import { createOverlayfs } from './drivers/overlayfs.ts'
import { createProxy, type RemoteRow } from './drivers/proxy.ts'
import { DEFAULT_LIMITS } from './extract/limits.ts'
import { createPool } from './extract/pool.ts'
import { createLayers } from './layers.ts'
import { createLeaseHolder } from './leases.ts'
import { type ActivationRow, createActivations } from './mounts/activations.ts'
import { mountsService } from './mounts-service.ts'
import { ownerService } from './owner-service.ts'
import { pluginsOf } from './plugins.ts'
import { createRepair } from './repair.ts'
import { rowsOf } from './rows.ts'
import { createSnapshots } from './snapshots.ts'
import { snapshotsService } from './snapshots-service.ts'
import { chooseUnpack, createStepwise } from './stepwise.ts'
import { createUnpack } from './unpack.ts'
import { unpackService } from './unpack-service.ts'
import { watchPools, watchUnpacking } from './watch.ts'
import { addressOf } from './wire.ts'

const MOUNTERS = 4 // mounts that may hang before others wait for them

keepHeapSmall()
const { log, stop, options } = await startProcess('snapshots', process.argv.slice(2))
goFirst() // this thread answers calls; those that extract would let it wait
const config = loadConfig('snapshots', Config, options)
const folder = join(config.root, 'snapshots')
const mountRoot = join(config.state, 'snapshots-mounts')

const socket = socketOf(config, 'snapshots')
await using telemetry = await openTelemetry({ app: 'snapshots', address: socket }, config, { log, env: process.env })
const { metrics } = telemetry // its socket tells that no other process is at work here
clearTargets(mountRoot)
await using mounters = createPool(MOUNTERS) // the last to end: a mount that hangs does not, and holds up nothing else
await using store = openStore(join(folder, 'records'), metrics)
await using bus = connectBus(config.nats, log, metrics)
await using changes = openChanges({ store, bus, log, metrics })
const collection = openCollection(store, changes)
await using metadata = connectOwner(config.metadata ?? socketOf(config, 'metadata'))
await using content = connectOwner(config.content ?? socketOf(config, 'content'))
await using pool = createPool(config.threads)
await using syncs = createPool(1)

const report = (err: unknown, path: string): void =>
  log.warn({ err, path }, 'Something could not be taken away: it is tried again, at the next start at the latest')
await using proxies = new AsyncDisposableStack()
const remotes = { table: store.table('remotes', jsonCodec<RemoteRow>()), write: store.write }
const drivers = [
  createOverlayfs({
    root: join(folder, 'overlayfs'),
    pool,
    report,
    mountOptions: config.mount_options,
    slowChown: config.slow_chown,
  }),
  createNative({ root: join(folder, 'native'), pool, report }),
  ...Object.entries(config.proxy).map(([name, { address, snapshotter: remoteName = name, capabilities }]) => {
    const channel = proxies.use(connect(address))
    const report = (err: unknown, key: string): void =>
      log.warn({ err, name, key }, 'A snapshot could not be removed from its remote: it is tried again')
    return proxies.use(createProxy({ name, address, remoteName, capabilities, channel, report, ...remotes }))
  }),
]
const owns = (path: string): boolean => drivers.some((driver) => driver.owns(path))
const limits = {
  ...DEFAULT_LIMITS,
  plainBytes: config.max_layer_bytes,
  entries: config.max_layer_entries,
  ratio: config.max_layer_ratio,
}
const leases = createLeaseHolder(metadata)
const rows = rowsOf(collection.store)
const snapshots = await createSnapshots({ rows, changes: collection.changes, drivers, leases, clock: Date.now })
const processors = createProcessors({
  processors: Object.entries(config.stream_processors).map(([id, processor]) => ({ id, ...processor })),
  folder: join(folder, 'processed'),
  maxBytes: limits.plainBytes,
  searchPath: process.env.PATH ?? '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
})
const watch = watchUnpacking(metrics)
watchPools(metrics, { extract: pool, sync: syncs, mount: mounters })
const apply = watch.apply(createApply({ content, pool, processors, limits, mountRoot, mounters, owns }))
const diff = createDiff({ content, pool, mountRoot, mounters })
const layers = watch.layers(createLayers({ content, pool, syncs, processors, limits, mountRoot, mounters }))
const sideBySide = createUnpack({ snapshots, layers, leases })
const stepwise = createStepwise({ content, snapshots, apply, leases })
const unpack = chooseUnpack(snapshots, { sideBySide, stepwise })
const mounts = join(config.state, 'mounts')
const activations = await createActivations({
  table: collection.store.table('activations', jsonCodec<ActivationRow>()),
  write: collection.changes.write,
  mounters,
  folder: mounts,
  roots: [folder],
  clock: Date.now,
  report,
})
const address = addressOf({ drivers: drivers.map(({ name }) => name), exported: config.exports })

await using _server = await listen({
  hop: true,
  address: socket,
  telemetry: telemetry.calls,
  bindings: [
    bind(Snapshots, snapshotsService(snapshots, address)),
    bind(Diff, diffService({ apply, diff })),
    bind(Mounts, mountsService(activations)),
    bind(Unpack, unpackService(unpack, address)),
    bind(Owner, ownerService(snapshots)),
    repairBinding(createRepair({ rows, snapshots, drivers, activations, mounts, mountTable })),
    collection.binding({
      roots: drivers.map(({ name }) => join(folder, name)),
      ...{ rows, activations, report },
      discard: async (scope, { id }) => drivers.find(({ name }) => name === scope.snapshotter)?.discard(id),
    }),
    introspection(pluginsOf(drivers)),
    statusBinding('snapshots', { bus, eventsBehind: changes.behind }),
  ],
  log,
})
log.info('The snapshots process is ready')
await stopped(stop)
