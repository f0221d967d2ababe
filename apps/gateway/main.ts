import { Containers } from '@gantry/api/containerd/services/containers/v1/containers_pb'
import { Content } from '@gantry/api/containerd/services/content/v1/content_pb'
import { Diff } from '@gantry/api/containerd/services/diff/v1/diff_pb'
import { Events } from '@gantry/api/containerd/services/events/v1/events_pb'
import { Images } from '@gantry/api/containerd/services/images/v1/images_pb'
import { Introspection } from '@gantry/api/containerd/services/introspection/v1/introspection_pb'
import { Leases } from '@gantry/api/containerd/services/leases/v1/leases_pb'
import { Mounts } from '@gantry/api/containerd/services/mounts/v1/mounts_pb'
import { Namespaces } from '@gantry/api/containerd/services/namespaces/v1/namespace_pb'
import { Controller, Store } from '@gantry/api/containerd/services/sandbox/v1/sandbox_pb'
import { Snapshots } from '@gantry/api/containerd/services/snapshots/v1/snapshots_pb'
import { Streaming } from '@gantry/api/containerd/services/streaming/v1/streaming_pb'
import { Tasks } from '@gantry/api/containerd/services/tasks/v1/tasks_pb'
import { Transfer } from '@gantry/api/containerd/services/transfer/v1/transfer_pb'
import { Version } from '@gantry/api/containerd/services/version/v1/version_pb'
import { connect } from '@gantry/rpc/client'
import { route } from '@gantry/rpc/proxy'
import { listen } from '@gantry/rpc/server'
import { bind } from '@gantry/rpc/service'
import { connectBus } from '@gantry/service/bus'
import { loadConfig, socketOf } from '@gantry/service/config'
import { introspectionOf } from '@gantry/service/plugins'
import { startProcess, stopped } from '@gantry/service/process'
import { statusBinding } from '@gantry/service/status-service'
import { openTelemetry } from '@gantry/service/telemetry'
import { Config } from './config.ts'
import { eventsService } from './events-service.ts'
import { introspectionService } from './introspection-service.ts'
import { PLUGINS } from './plugins.ts'
import { versionService } from './version-service.ts'

const { log, stop, options } = await startProcess('gateway', process.argv.slice(2))
const config = loadConfig('gateway', Config, options)

const socket = config.socket ?? socketOf(config, 'gantry')
await using telemetry = await openTelemetry({ app: 'gateway', address: socket }, config, { log, env: process.env })
const { calls } = telemetry
await using bus = connectBus(config.nats, log, telemetry.metrics)
await using metadata = connect(config.metadata ?? socketOf(config, 'metadata'))
await using content = connect(config.content ?? socketOf(config, 'content'))
await using snapshots = connect(config.snapshots ?? socketOf(config, 'snapshots'))
await using tasks = connect(config.tasks ?? socketOf(config, 'tasks'))

await using _server = await listen({
  address: socket,
  telemetry: calls,
  mode: 0o660,
  bindings: [
    bind(Version, versionService()),
    bind(Events, eventsService(bus)),
    statusBinding('gateway', { bus, eventsBehind: () => 0 }),
    bind(
      Introspection,
      introspectionService({ own: introspectionOf(PLUGINS), metadata, others: [content, snapshots, tasks], log }),
    ),
  ],
  routes: [
    ...[Namespaces, Images, Containers, Leases, Store].map((service) => route(service, metadata, calls)),
    ...[Content, Transfer, Streaming].map((service) => route(service, content, calls)),
    ...[Snapshots, Diff, Mounts].map((service) => route(service, snapshots, calls)),
    ...[Tasks, Controller].map((service) => route(service, tasks, calls)),
  ],
  log,
})
log.info('The gateway is ready')
await stopped(stop)
