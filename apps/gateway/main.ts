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
import { Audit } from '@gantry/api/gantry/audit/v1/audit_pb'
import { connect } from '@gantry/rpc/client'
import { route } from '@gantry/rpc/proxy'
import { listen, routeOf } from '@gantry/rpc/server'
import { bind } from '@gantry/rpc/service'
import { connectBus } from '@gantry/service/bus'
import { loadConfig, socketOf } from '@gantry/service/config'
import { keepHeapSmall } from '@gantry/service/heap'
import { introspectionOf } from '@gantry/service/plugins'
import { startProcess, stopped } from '@gantry/service/process'
import { statusBinding } from '@gantry/service/status-service'
import { openTelemetry } from '@gantry/service/telemetry'
import type { Caller } from './access/caller.ts'
import { eventsWithin } from './access/events.ts'
import { guarded } from './access/guard.ts'
import { LASTING } from './access/methods.ts'
import { namespacesWithin } from './access/namespaces.ts'
import { openPolicy, socketGroup } from './access/open-policy.ts'
import type { Rights } from './access/policy.ts'
import { createAudit, NO_AUDIT } from './audit/audit.ts'
import { AUDIT_LOG, auditService } from './audit/audit-service.ts'
import { Config } from './config.ts'
import { eventsService } from './events-service.ts'
import { introspectionService } from './introspection-service.ts'
import { giveMemoryBack } from './memory.ts'
import { PLUGINS } from './plugins.ts'
import { serveTcp } from './tcp.ts'
import { versionService } from './version-service.ts'

/** How long calls may go on that run when the gateway stops; new ones are told to go elsewhere. */
const GRACE_MS = 2000

keepHeapSmall()
giveMemoryBack()
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

const { enabled, max_age_h: maxAgeH, max_bytes: maxBytes } = config.audit
const journal = enabled ? bus.journal({ ...AUDIT_LOG, maxAgeH, maxBytes }) : undefined
await using audit = journal ? createAudit({ journal, log }) : NO_AUDIT
using policy = openPolicy(config, log)

const watched = { telemetry: calls, log }
const own = [
  bind(Version, versionService()),
  bind(Events, eventsService(bus)),
  bind(Audit, auditService(journal)),
  statusBinding('gateway', { bus, eventsBehind: () => 0 }),
  bind(
    Introspection,
    introspectionService({ own: introspectionOf(PLUGINS), metadata, others: [content, snapshots, tasks], log }),
  ),
].map((binding) => routeOf(binding, watched))
const owned = [
  ...[Namespaces, Images, Containers, Leases, Store].map((service) => route(service, metadata, calls)),
  ...[Content, Transfer, Streaming].map((service) => route(service, content, calls)),
  ...[Snapshots, Diff, Mounts].map((service) => route(service, snapshots, calls)),
  ...[Tasks, Controller].map((service) => route(service, tasks, calls)),
]
const within = (caller: Caller, now: () => Rights) =>
  [
    bind(Namespaces, namespacesWithin(now, caller, metadata)),
    bind(Events, eventsService(bus, eventsWithin(now, caller))),
  ].map((binding) => routeOf(binding, watched))
const served = {
  bindings: [],
  routes: [guarded([...own, ...owned], { policy: policy.current, audit, telemetry: calls, within })],
  ...{ graceMs: GRACE_MS, lasting: LASTING, log },
}

await using _server = await listen({ address: socket, mode: 0o660, ...socketGroup(config.group), ...served })
await using _tcp = config.tcp && (await serveTcp(config.tcp, served))
log.info('The gateway is ready')
await stopped(stop)
