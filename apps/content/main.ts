/** gantry-content: the owner of blobs and ingests, and the one that talks to registries. */
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { Content } from '@gantry/api/containerd/services/content/v1/content_pb'
import { Streaming } from '@gantry/api/containerd/services/streaming/v1/streaming_pb'
import { Transfer } from '@gantry/api/containerd/services/transfer/v1/transfer_pb'
import { Blobs } from '@gantry/api/gantry/content/v1/blobs_pb'
import { Registries } from '@gantry/api/gantry/content/v1/registries_pb'
import { Owner } from '@gantry/api/gantry/owner/v1/owner_pb'
import { createKeyring } from '@gantry/client/credentials'
import { dockerConfigFile } from '@gantry/client/docker-config'
import { connectOwner } from '@gantry/rpc/client'
import { listen } from '@gantry/rpc/server'
import { bind } from '@gantry/rpc/service'
import { connectBus } from '@gantry/service/bus'
import { openChanges } from '@gantry/service/changes'
import { loadConfig, socketOf } from '@gantry/service/config'
import { introspection } from '@gantry/service/plugins'
import { startProcess, stopped } from '@gantry/service/process'
import { repairBinding } from '@gantry/service/repair'
import { statusBinding } from '@gantry/service/status-service'
import { openTelemetry } from '@gantry/service/telemetry'
import { openStore } from '@gantry/store/store'
import { createExport } from './archive/export.ts'
import { createImport } from './archive/import.ts'
import { createBlobs } from './blobs/blobs.ts'
import { openFolder } from './blobs/folder.ts'
import { createGrowing } from './blobs/growing.ts'
import { createHashers } from './blobs/hashers.ts'
import { createIngests } from './blobs/ingests.ts'
import { openRows } from './blobs/rows.ts'
import { openCollection } from './collect.ts'
import { Config } from './config.ts'
import { contentService } from './content-service.ts'
import { createImages } from './images.ts'
import { createLeases } from './leases.ts'
import { blobsService, ownerService } from './owner-service.ts'
import { plugins } from './plugins.ts'
import { createPull } from './pull/pull.ts'
import { createUnpacker } from './pull/unpacker.ts'
import { createPush } from './push/push.ts'
import { registriesService } from './registries-service.ts'
import { createHosts } from './registry/hosts.ts'
import { createRegistry } from './registry/registry.ts'
import { createTransport } from './registry/transport.ts'
import { createServiceWallet } from './registry/wallet.ts'
import { createRepair } from './repair.ts'
import { sharePolicy } from './share-policy.ts'
import { streamingService } from './streaming/streaming-service.ts'
import { createStreams } from './streaming/streams.ts'
import { transferService } from './transfer-service.ts'
import { createScrub } from './verify/scrub.ts'
import { createVerifyImage } from './verify/verify-image.ts'
import { createPullWatch, watchIngests } from './watch.ts'

const THREADS = Math.min(availableParallelism(), 4) // that receive and hash
const BACKOFF_MS = 100 // before a registry is asked again

const { log, stop, options } = await startProcess('content', process.argv.slice(2))
const config = loadConfig('content', Config, options)
const root = join(config.root, 'content')

const socket = socketOf(config, 'content')
await using telemetry = await openTelemetry({ app: 'content', address: socket }, config, { log, env: process.env })
const { metrics } = telemetry
await using store = openStore(join(root, 'records'), metrics)
await using bus = connectBus(config.nats, log, metrics)
await using changes = openChanges({ store, bus, log, metrics })
await using metadata = connectOwner(socketOf(config, 'metadata'))
await using snapshots = connectOwner(socketOf(config, 'snapshots'))

const { env } = process
const proxy = {
  httpProxy: env.http_proxy ?? env.HTTP_PROXY ?? '',
  httpsProxy: env.https_proxy ?? env.HTTPS_PROXY ?? '',
  noProxy: env.no_proxy ?? env.NO_PROXY ?? '',
}
const stallMs = config.stall_timeout_s * 1000
await using transport = createTransport({ proxy, stallMs })

const folder = openFolder(root)
const collection = openCollection({ rows: openRows(store), changes, folder })
const { rows } = collection
await using hashers = createHashers(THREADS, { proxy, stallMs })
const leases = createLeases(metadata, log)
const mayShare = sharePolicy(config.policy, rows, metadata)
const parts = { rows, folder, hashers, changes: collection.changes, leases, mayShare, now: Date.now }
const blobs = createBlobs(parts)
const ingests = createIngests(parts)
const growing = createGrowing()
const streams = createStreams()
const images = createImages(metadata)
const unpacker = createUnpacker({ snapshots, blobs, snapshotters: config.unpack_snapshotters, log })
const hosts = createHosts(config.hosts_dir)
const dockerConfig = config.docker_config ?? dockerConfigFile(env)
const keyring = dockerConfig === undefined ? undefined : createKeyring({ file: dockerConfig, env })
const wallet = createServiceWallet(async (host, signal) => await keyring?.find(host, signal), Date.now)
const watch = createPullWatch(metrics)
watchIngests(metrics, ingests)
const registry = createRegistry({ transport, now: Date.now, stallMs, backoffMs: BACKOFF_MS, hosts, wallet, watch })
const verify = createVerifyImage({
  dir: config.verifier_dir,
  maxVerifiers: config.max_verifiers,
  timeoutMs: config.per_verifier_timeout_s * 1000,
  env: { PATH: env.PATH, HOME: env.HOME, https_proxy: proxy.httpsProxy, no_proxy: proxy.noProxy },
  log,
})
const limits = { downloads: config.max_concurrent_downloads, connections: config.max_connections_per_blob }
const pull = createPull({ registry, blobs, ingests, growing, leases, images, unpacker, verify, ...limits, watch })
const scrub = createScrub(parts)
const push = createPush({ registry, blobs, leases, images, uploads: config.max_concurrent_uploads })
const importArchive = createImport({ blobs, ingests, leases, images, unpacker, verify })
const exportArchive = createExport({ blobs, leases, images })
await folder.sweep(ingests.ids())
await scrub.resume(stop)

await using _server = await listen({
  hop: true,
  address: socket,
  telemetry: telemetry.calls,
  bindings: [
    bind(Content, contentService({ blobs, ingests, leases })),
    bind(Transfer, transferService({ pull, push, importArchive, exportArchive, images, streams, wallet, log })),
    bind(Streaming, streamingService(streams)),
    bind(Blobs, blobsService(blobs, growing, scrub)),
    bind(Registries, registriesService({ registry, wallet })),
    bind(Owner, ownerService(blobs)),
    repairBinding(createRepair({ rows, folder })),
    collection.binding({ isBusy: ingests.isBusy, streams }),
    introspection(plugins(root)),
    statusBinding('content', { bus, eventsBehind: changes.behind }),
  ],
  log,
})
log.info('The content service is ready')
await stopped(stop)
