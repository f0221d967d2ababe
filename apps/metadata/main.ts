/** gantry-metadata: the owner of namespaces, images, containers and leases. */
import { create } from '@bufbuild/protobuf'
import { TimestampSchema } from '@bufbuild/protobuf/wkt'
import { Containers } from '@gantry/api/containerd/services/containers/v1/containers_pb'
import { Images } from '@gantry/api/containerd/services/images/v1/images_pb'
import { Introspection } from '@gantry/api/containerd/services/introspection/v1/introspection_pb'
import { Leases } from '@gantry/api/containerd/services/leases/v1/leases_pb'
import { Namespaces } from '@gantry/api/containerd/services/namespaces/v1/namespace_pb'
import { Store } from '@gantry/api/containerd/services/sandbox/v1/sandbox_pb'
import { Snapshots } from '@gantry/api/containerd/services/snapshots/v1/snapshots_pb'
import { Collection, Collector } from '@gantry/api/gantry/collection/v1/collection_pb'
import { Owner } from '@gantry/api/gantry/owner/v1/owner_pb'
import { toTimestamp } from '@gantry/model/clock'
import { clientOf, connectOwner } from '@gantry/rpc/client'
import { listen } from '@gantry/rpc/server'
import { bind } from '@gantry/rpc/service'
import { createBarrier } from '@gantry/service/barrier'
import { connectBus } from '@gantry/service/bus'
import { openChanges } from '@gantry/service/changes'
import { localParty, remoteParty } from '@gantry/service/collection'
import { keepYoungSmall } from '@gantry/service/heap'
import { startProcess, stopped } from '@gantry/service/process'
import { statusBinding } from '@gantry/service/status-service'
import { openTelemetry } from '@gantry/service/telemetry'
import { openStore } from '@gantry/store/store'
import { collectorService } from './collect/collector-service.ts'
import { measure } from './collect/measure.ts'
import { createRecordsKeeper, watchRows } from './collect/records.ts'
import { startCollector } from './collect/schedule.ts'
import { createCollectionWatch } from './collect/watch.ts'
import { readConfig } from './config.ts'
import { createContainers } from './containers/containers.ts'
import { containersService } from './containers/containers-service.ts'
import { openIdentity } from './identity.ts'
import { createImages } from './images/images.ts'
import { imagesService } from './images/images-service.ts'
import { introspectionService } from './introspection-service.ts'
import { createLeases } from './leases/leases.ts'
import { leasesService } from './leases/leases-service.ts'
import { createNamespaces } from './namespaces/namespaces.ts'
import { namespacesService } from './namespaces/namespaces-service.ts'
import { createOwners } from './owners.ts'
import { rowsOf } from './rows.ts'
import { createSandboxes } from './sandboxes/sandboxes.ts'
import { sandboxStoreService } from './sandboxes/sandboxes-service.ts'

keepYoungSmall()
const { log, stop, options } = await startProcess('metadata', process.argv.slice(2))
const config = readConfig(options)

const { socket } = config
await using telemetry = await openTelemetry({ app: 'metadata', address: socket }, config, { log, env: process.env })
const { metrics } = telemetry
await using store = openStore(config.records, metrics)
await using bus = connectBus(config.nats, log, metrics)
await using changes = openChanges({ store, bus, log, metrics })
await using content = connectOwner(config.content)
await using snapshots = connectOwner(config.snapshots)

const recorded = rowsOf(store)
const barrier = createBarrier(changes)
const rows = watchRows(recorded, barrier)
await using collector = startCollector({
  parties: {
    metadata: localParty(barrier, createRecordsKeeper({ rows: recorded, changes })),
    content: remoteParty(clientOf(Collection, content)),
    snapshots: remoteParty(clientOf(Collection, snapshots)),
  },
  thresholds: config.gc,
  watch: createCollectionWatch(metrics),
  log,
  now: Date.now,
})
const parts = { rows, changes: barrier.changes, now: () => create(TimestampSchema, toTimestamp(new Date())) }
const owners = createOwners({ content: clientOf(Owner, content), snapshots: clientOf(Owner, snapshots) }, log)

await using _server = await listen({
  hop: true,
  address: socket,
  telemetry: telemetry.calls,
  bindings: [
    bind(Namespaces, namespacesService(createNamespaces({ rows, changes: barrier.changes, owners }))),
    bind(Images, imagesService(createImages(parts), collector)),
    bind(Containers, containersService(createContainers(parts))),
    bind(
      Collector,
      collectorService(collector, (nodes, signal) => measure(nodes, clientOf(Snapshots, snapshots), signal)),
    ),
    bind(Leases, leasesService(createLeases({ ...parts, deleted: barrier.deleted }), collector)),
    bind(Store, sandboxStoreService(createSandboxes(parts))),
    bind(Introspection, introspectionService(await openIdentity(rows, changes), config.records)),
    statusBinding('metadata', { bus, eventsBehind: changes.behind }),
  ],
  log,
})
log.info({ socket: config.socket }, 'Ready')
await stopped(stop)
