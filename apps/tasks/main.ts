import { readFileSync } from 'node:fs'
import { Containers } from '@gantry/api/containerd/services/containers/v1/containers_pb'
import { Content } from '@gantry/api/containerd/services/content/v1/content_pb'
import { Mounts } from '@gantry/api/containerd/services/mounts/v1/mounts_pb'
import { Namespaces } from '@gantry/api/containerd/services/namespaces/v1/namespace_pb'
import { Controller, Store } from '@gantry/api/containerd/services/sandbox/v1/sandbox_pb'
import { Snapshots } from '@gantry/api/containerd/services/snapshots/v1/snapshots_pb'
import { Tasks } from '@gantry/api/containerd/services/tasks/v1/tasks_pb'
import { Events } from '@gantry/api/containerd/services/ttrpc/events/v1/events_pb'
import { clientOf, connectOwner } from '@gantry/rpc/client'
import { listen } from '@gantry/rpc/server'
import { bind } from '@gantry/rpc/service'
import { listenTtrpc } from '@gantry/rpc/ttrpc-server'
import { connectBus } from '@gantry/service/bus'
import { openChanges } from '@gantry/service/changes'
import { loadConfig, socketOf } from '@gantry/service/config'
import { keepHeapSmall } from '@gantry/service/heap'
import { introspection } from '@gantry/service/plugins'
import { startProcess, stopped } from '@gantry/service/process'
import { repairBinding } from '@gantry/service/repair'
import { statusBinding } from '@gantry/service/status-service'
import { openTelemetry } from '@gantry/service/telemetry'
import { openStore } from '@gantry/store/store'
import { adopt } from './adopt.ts'
import { bundlesIn } from './bundle.ts'
import { createCheckpoints } from './checkpoint.ts'
import { Config } from './config.ts'
import { createEndings } from './ending.ts'
import { createNetworks } from './network/networks.ts'
import { tasksPlugins } from './plugins.ts'
import { keepReconciled } from './reconcile.ts'
import { createRegistry } from './registry.ts'
import { createMonitor, type Monitor } from './restart/monitor.ts'
import { createRestores, sweepCheckpoints } from './restore.ts'
import { createRootfsMounts } from './rootfs.ts'
import { openRows } from './rows.ts'
import { createHost, findConmon } from './runtime/choose.ts'
import { createExits } from './runtime/exits.ts'
import { createOciRuntime } from './runtime/oci.ts'
import { reportRuntime } from './runtime/report.ts'
import { routeRuntime } from './runtime/route.ts'
import { tracedRuntime } from './runtime/traced.ts'
import { networksOfContainers, networksOfSandboxes } from './sandbox/networks.ts'
import { openSandboxTasks, sandboxState } from './sandbox/open.ts'
import { sandboxService } from './sandbox/sandbox-service.ts'
import { createSandboxes } from './sandbox/sandboxes.ts'
import { createShimSandboxes } from './sandbox/shim.ts'
import { eventsIntake } from './shim/events-intake.ts'
import { createLinks } from './shim/link.ts'
import { createShimRuntime } from './shim/shim-runtime.ts'
import { readHostLimits } from './spec.ts'
import { createTasks } from './tasks.ts'
import { tasksService } from './tasks-service.ts'
import { watchTasks } from './watch.ts'

keepHeapSmall()
const { log, stop, options } = await startProcess('tasks', process.argv.slice(2))
const config = loadConfig('tasks', Config, options)
const env = { PATH: process.env.PATH ?? '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' }
const host = createHost(env.PATH)
const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()

const socket = socketOf(config, 'tasks')
await using telemetry = await openTelemetry({ app: 'tasks', address: socket }, config, { log, env: process.env })
const { metrics } = telemetry
await using bus = connectBus(config.nats, log, metrics)
await using store = openStore(`${config.root}/tasks/records`, metrics)
await using changes = openChanges({ store, bus, log, metrics })
await using metadata = connectOwner(config.metadata ?? socketOf(config, 'metadata'))
await using snapshots = connectOwner(config.snapshots ?? socketOf(config, 'snapshots'))
await using content = connectOwner(config.content ?? socketOf(config, 'content'))

using exits = createExits(Date.now)
const ttrpcAddress = `${config.state}/gantry.sock.ttrpc`
await using links = createLinks(log)
const builtIn = createOciRuntime({ state: config.state, env, exits, conmon: () => findConmon(config.conmon, host) })
const shimParts = { ...{ links, env, ttrpcAddress, log }, grpcAddress: socketOf(config, 'gantry'), now: Date.now }
const runtime = tracedRuntime(routeRuntime(builtIn, createShimRuntime(shimParts)))
const shims = createShimSandboxes(shimParts)
const allNetworks = createNetworks({
  ...{ state: config.state, plugins: config.cni_path, env, log },
  config: {
    ...{
      plugins: config.cni_path,
      definitions: config.cni_config,
      bridge: config.bridge,
      subnet: config.bridge_subnet,
      subnet6: config.bridge_subnet6,
    },
    leases: `${config.state}/leases`,
  },
})
const networks = networksOfContainers(allNetworks)
const limits = readHostLimits()
using pods = await openSandboxTasks({
  ...{ store, host, builtIn, shims, networks: networksOfSandboxes(allNetworks), state: config.state },
  ...{ write: changes.write, limits, boot, now: Date.now, log },
})
let monitor: Monitor | undefined
function onEnd(namespace: string, id: string): void {
  void networks.detach(namespace, id)
  monitor?.ended(namespace, id)
}
const shared = { rows: openRows(store), write: changes.write, runtime, networks, onEnd, boot, now: Date.now, log }
const parts = {
  ...shared,
  ...{ registry: createRegistry(), endings: createEndings(shared) },
  ...{ bundles: bundlesIn(config.state), limits, entrance: pods.entrance },
  rootfs: createRootfsMounts(clientOf(Mounts, snapshots)),
}
await using _intake = await listenTtrpc({
  address: ttrpcAddress,
  bindings: [bind(Events, eventsIntake(changes.write))],
  telemetry: telemetry.calls,
  log,
})
await reportRuntime({ configured: config.runtime, conmon: config.conmon, host, env, log })
await adopt(parts)
using reconciled = await keepReconciled({ ...parts, state: config.state, host })

watchTasks(metrics, parts.registry)
const runtimes = { configured: config.runtime, host, state: config.state, init: config.init }
const tasks = createTasks(parts)
const containers = clientOf(Containers, metadata)
const folder = `${config.root}/tasks/checkpoints`
sweepCheckpoints(folder, parts.registry)
const blobs = clientOf(Content, content)
const checkpoint = createCheckpoints({ tasks, content: blobs, folder, env })
const restoreOf = createRestores({ content: blobs, host, folder })
const service = tasksService({ tasks, checkpoint, restoreOf, containers, runtimes })
const sandboxes = createSandboxes({
  ...{ ...pods, shims, host, init: config.init, now: Date.now },
  containers: { registry: parts.registry, tasks },
})
const controller = sandboxService({
  ...{ sandboxes, shims, store: clientOf(Store, metadata), now: Date.now },
  runtimes: { ...runtimes, state: sandboxState(config.state) },
})
await using _server = await listen({
  hop: true,
  address: socket,
  telemetry: telemetry.calls,
  bindings: [
    bind(Tasks, service),
    bind(Controller, controller),
    repairBinding(reconciled.repair),
    introspection(tasksPlugins()),
    statusBinding('tasks', { bus, eventsBehind: changes.behind }),
  ],
  log,
})
using restarts = createMonitor({
  ...{ tasks, containers, runtimes, now: Date.now, log },
  ...{ namespaces: clientOf(Namespaces, metadata), snapshots: clientOf(Snapshots, snapshots) },
})
monitor = restarts
log.info('Tasks is ready')
await stopped(stop)
