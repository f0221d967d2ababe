import type { Controller, Store } from '@gantry/api/containerd/services/sandbox/v1/sandbox_pb'
import type { Sandbox } from '@gantry/api/containerd/types/sandbox_pb'
import { toTimestamp, ZERO_TIME } from '@gantry/model/clock'
import { Fault, ignoring, isFault } from '@gantry/model/fault'
import type { Namespace } from '@gantry/model/namespace'
import { NETWORK_LABEL, parseNetworkLabel } from '@gantry/model/network'
import { hostPlatform } from '@gantry/model/platform'
import type { Client } from '@gantry/rpc/client'
import type { Implementation } from '@gantry/rpc/service'
import { readMetrics } from '../metrics.ts'
import type { Task } from '../registry.ts'
import { type ResolveParts, resolveRuntime } from '../runtime/resolve.ts'
import { readBootstrap } from '../shim/bootstrap.ts'
import { isStopped, pidOf } from '../task.ts'
import { groupOf } from './pause.ts'
import { cgroupOf, type Sandboxes } from './sandboxes.ts'
import type { ShimSandboxes } from './shim.ts'

const STATE_MS = 2000
const MAX_TIMEOUT_SECS = 3600

export interface SandboxServiceParts {
  readonly sandboxes: Sandboxes
  readonly shims: ShimSandboxes
  /** Who keeps the records; only Create without a record in the request needs it. */
  readonly store: Client<typeof Store>
  readonly runtimes: ResolveParts
  readonly now: () => number
}

/**
 * containerd.services.sandbox.v1.Controller (behaviour facts, 14). The controller `shim` has two kinds of sandboxes: with the
 * runtime that is built in a group of containers that share namespaces, with any other what its shim makes of it.
 */
export function sandboxService(parts: SandboxServiceParts): Implementation<typeof Controller> {
  const { sandboxes, shims } = parts
  return {
    async create(request, { namespace, signal }) {
      checkController(request)
      const record = request.sandbox ?? (await recordOf(parts, namespace, request.sandboxId, signal))
      await sandboxes.create(namespace, request.sandboxId, wishOf(parts, namespace, request, record))
      return { sandboxId: request.sandboxId }
    },

    async start(request, { namespace }) {
      const id = checkController(request)
      await sandboxes.start(namespace, id).catch((error) => {
        if (!isFault(error, 'not-found')) throw error
        throw new Fault('unknown', `failed to start: ${error.message}`, { cause: error }) // containerd's code
      })
      return { sandboxId: id, labels: {}, ...aboutStart(parts, sandboxes.find(namespace, id)) }
    },

    async platform(request, { namespace }) {
      const sandbox = sandboxes.find(namespace, checkController(request))
      if (!sandbox.runtime.shim) return { platform: thisPlatform() }
      const reply = await shims.call(sandbox, (calls, options) => calls.platform({ sandboxId: sandbox.id }, options))
      return reply.platform ? { platform: reply.platform } : {}
    },

    async stop(request, { namespace }) {
      const id = checkController(request)
      const timeoutMs = Math.min(request.timeoutSecs, MAX_TIMEOUT_SECS) * 1000
      if (sandboxes.has(namespace, id)) await sandboxes.stop(namespace, id, timeoutMs)
      return {}
    },

    async wait(request, { namespace, signal }) {
      const { exit } = await sandboxes.wait(namespace, checkController(request), signal)
      return { exitStatus: exit.status, exitedAt: toTimestamp(exit.atMs) }
    },

    async status(request, { namespace }) {
      const id = checkController(request)
      if (!sandboxes.has(namespace, id)) return { sandboxId: id, exitedAt: toTimestamp(parts.now()) }
      const sandbox = sandboxes.find(namespace, id)
      return sandbox.runtime.shim ? shimStatus(parts, sandbox, request.verbose) : groupStatus(sandbox, request.verbose)
    },

    async shutdown(request, { namespace }) {
      await sandboxes.shutdown(namespace, checkController(request))
      return {}
    },

    async metrics(request, { namespace }) {
      const sandbox = sandboxes.find(namespace, checkController(request))
      if (sandbox.runtime.shim) {
        const wish = { sandboxId: sandbox.id }
        const reply = await shims.call(sandbox, (calls, options) => calls.sandboxMetrics(wish, options))
        return reply.metrics ? { metrics: reply.metrics } : {}
      }
      const metrics = readMetrics(sandbox.id, cgroupOf(sandbox), parts.now())
      return metrics ? { metrics } : {}
    },

    /** Accepted and ignored, as by containerd. */
    async update(request) {
      checkController(request)
      return {}
    },
  }
}

/** @returns the id of the sandbox. @throws {Fault} for a controller that is none, or not here */
function checkController({ sandboxer, sandboxId }: { readonly sandboxer: string; readonly sandboxId: string }): string {
  if (sandboxer === '') throw new Fault('invalid-argument', 'Cannot tell who runs the sandbox: no sandboxer is given')
  if (sandboxer === 'podsandbox')
    throw new Fault('unimplemented', 'Sandboxes by podsandbox are not implemented: use the controller shim')
  if (sandboxer !== 'shim')
    throw new Fault('not-found', `sandbox controller ${JSON.stringify(sandboxer.slice(0, 64))}: not found`)
  return sandboxId
}

async function recordOf(
  { store }: SandboxServiceParts,
  namespace: Namespace,
  sandboxId: string,
  signal: AbortSignal,
): Promise<Sandbox> {
  const reply = await ignoring('not-found', store.get({ sandboxId }, { namespace, signal }))
  if (reply?.sandbox) return reply.sandbox
  throw new Fault('not-found', `sandbox ${JSON.stringify(sandboxId.slice(0, 80))}: not found`)
}

function wishOf(
  { runtimes }: SandboxServiceParts,
  namespace: Namespace,
  request: Parameters<Implementation<typeof Controller>['create']>[0],
  { runtime, spec, labels }: Sandbox,
): Parameters<Sandboxes['create']>[2] {
  const { options, netnsPath: netns, annotations, rootfs } = request
  const wish = { namespace, name: runtime?.name ?? '', path: '', options, containerOptions: runtime?.options }
  const network = labels[NETWORK_LABEL]
  return {
    ...{
      netns,
      annotations,
      rootfs: rootfs.map(({ type, source, target, options }) => ({ type, source, target, options })),
    },
    runtime: resolveRuntime(runtimes, wish),
    spec: new TextDecoder().decode(spec?.value),
    network: network === undefined ? undefined : parseNetworkLabel(network),
  }
}

function aboutStart({ shims }: SandboxServiceParts, sandbox: Task) {
  if (!sandbox.runtime.shim)
    return { pid: pidOf(sandbox.init.life), createdAt: toTimestamp(groupOf(sandbox.bundle).createdMs) }
  const { pid = 0, createdAt, spec } = shims.started(sandbox) ?? {}
  return { pid, ...(createdAt && { createdAt }), ...(spec && { spec }), ...addressOf(sandbox) }
}

/** Where the containers of the sandbox are to be sent, for clients that say so with each. */
function addressOf(sandbox: Task) {
  const bootstrap = readBootstrap(sandbox)
  return bootstrap ? { address: `${bootstrap.protocol}+${bootstrap.address}`, version: bootstrap.version } : {}
}

function groupStatus({ id, bundle, init: { life } }: Task, verbose: boolean) {
  const { createdMs, cgroup, shares } = groupOf(bundle)
  return {
    ...{ sandboxId: id, pid: isStopped(life) ? 0 : pidOf(life), createdAt: toTimestamp(createdMs) },
    state: life.status === 'running' ? 'SANDBOX_READY' : 'SANDBOX_NOTREADY',
    exitedAt: isStopped(life) ? toTimestamp(life.exit.atMs) : ZERO_TIME,
    info: verbose ? { shares: shares.join(','), cgroup: cgroup ?? '' } : {},
  }
}

async function shimStatus({ shims }: SandboxServiceParts, sandbox: Task, verbose: boolean) {
  const { id, init } = sandbox
  if (isStopped(init.life))
    return {
      sandboxId: id,
      state: 'SANDBOX_NOTREADY',
      exitedAt: toTimestamp(init.life.exit.atMs),
      ...addressOf(sandbox),
    }
  const wish = { sandboxId: id, verbose }
  const { $typeName: _, ...status } = await shims.call(
    sandbox,
    (calls, options) => calls.sandboxStatus(wish, options),
    STATE_MS,
  )
  return { ...status, ...addressOf(sandbox) }
}

function thisPlatform() {
  const { os, architecture, variant = '' } = hostPlatform()
  return { os, architecture, variant }
}
