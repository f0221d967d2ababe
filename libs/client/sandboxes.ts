import type { Sandbox as WireSandbox } from '@gantry/api/containerd/types/sandbox_pb'
import { ignoring } from '@gantry/model/fault'
import { formatNetwork, NETWORK_LABEL, type NetworkRequest } from '@gantry/model/network'
import { packJson } from './any.ts'
import type { NamespacePath } from './spec-options.ts'
import { toDate, type Wire } from './wire.ts'

const SANDBOXER = 'shim' // what runs sandboxes unless somebody else is named, as in containerd
const CLEANUP_MS = 20_000
const READY = 'SANDBOX_READY'

/** A group of containers that share namespaces. */
export interface Sandbox {
  readonly id: string
  readonly runtime: string
  readonly labels: Readonly<Record<string, string>>
  readonly createdAt: Date
  /** Containers can run in it. */
  readonly ready: boolean
  /** Of the process that holds its namespaces, 0 when there is none. */
  readonly pid: number
}

export interface RunSandbox {
  readonly id: string
  /** A runtime name such as `io.containerd.runc.v2`; the default unless told. */
  readonly runtime?: string
  readonly labels?: Readonly<Record<string, string>>
  readonly hostname?: string
  /** Containers see each other's processes as well. */
  readonly sharePids?: boolean
  /** `none`, its own with a loopback device alone, unless told. */
  readonly network?: 'none' | 'host' | NamespacePath
  /** A network that the node makes for it while it runs; `network` is left out then. Gantry only. */
  readonly attach?: NetworkRequest
}

export interface Sandboxes {
  /** Writes the record and starts the sandbox, both or neither. @throws {Fault} `already-exists` */
  run(options: RunSandbox, signal: AbortSignal): Promise<{ readonly pid: number }>
  list(signal: AbortSignal): Promise<Sandbox[]>
  /** Ends it with all its containers, after `graceS` seconds by force, and deletes its record. @throws {Fault} `not-found` */
  remove(id: string, graceS: number, signal: AbortSignal): Promise<void>
}

export function createSandboxes(wire: Wire): Sandboxes {
  const { sandboxes, sandboxController: controller } = wire.services
  return {
    run: (options, signal) => run(wire, options, signal),
    async list(signal) {
      const { list } = await sandboxes.list({}, wire.call(signal))
      return Promise.all(list.map((sandbox) => describe(wire, sandbox, signal)))
    },
    async remove(sandboxId, graceS, signal) {
      const { sandbox } = await sandboxes.get({ sandboxId }, wire.call(signal))
      const what = { sandboxId, sandboxer: sandbox?.sandboxer || SANDBOXER }
      await controller.stop({ ...what, timeoutSecs: graceS }, wire.call(signal))
      await ignoring('not-found', controller.shutdown(what, wire.call(signal)))
      await sandboxes.delete({ sandboxId }, wire.call(signal))
    },
  }
}

async function run(wire: Wire, options: RunSandbox, signal: AbortSignal): Promise<{ readonly pid: number }> {
  const { sandboxes, sandboxController: controller } = wire.services
  const { id: sandboxId, attach, labels } = options
  const sandbox = {
    ...{ sandboxId, sandboxer: SANDBOXER, runtime: { name: options.runtime ?? wire.runtime } },
    ...{ spec: packJson('Spec', specOf(options)) },
    labels: { ...labels, ...(attach && { [NETWORK_LABEL]: formatNetwork(attach) }) },
  }
  const what = { sandboxId, sandboxer: SANDBOXER }
  await sandboxes.create({ sandbox }, wire.call(signal))
  try {
    await controller.create({ ...what, sandbox }, wire.call(signal))
    const { pid } = await controller.start(what, wire.call(signal))
    return { pid }
  } catch (error) {
    const cleanup = AbortSignal.timeout(CLEANUP_MS)
    await controller.shutdown(what, wire.call(cleanup)).catch(() => undefined) // there may be none
    await sandboxes.delete({ sandboxId }, wire.call(cleanup)).catch(() => undefined)
    throw error
  }
}

/** Which namespaces there are to share. */
function specOf({ hostname, network, sharePids }: RunSandbox) {
  const path = typeof network === 'object' ? { path: network.path } : {}
  const namespaces = [
    ...(network === 'host' ? [] : [{ type: 'network', ...path }]),
    ...[{ type: 'ipc' }, { type: 'uts' }],
    ...(sharePids ? [{ type: 'pid' }] : []),
  ]
  return { ociVersion: '1.1.0', ...(hostname !== undefined && { hostname }), linux: { namespaces } }
}

async function describe(wire: Wire, sandbox: WireSandbox, signal: AbortSignal): Promise<Sandbox> {
  const { sandboxId, sandboxer, labels, runtime, createdAt } = sandbox
  const what = { sandboxId, sandboxer: sandboxer || SANDBOXER }
  // one of another client may be run by nobody here
  const status = await ignoring('not-found', wire.services.sandboxController.status(what, wire.call(signal)))
  return {
    ...{ id: sandboxId, runtime: runtime?.name ?? '', labels, createdAt: toDate(createdAt) },
    ...{ ready: status?.state === READY, pid: status?.pid ?? 0 },
  }
}
