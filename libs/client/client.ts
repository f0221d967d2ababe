import { dirname } from 'node:path'
import { Fault } from '@gantry/model/fault'
import { parseNamespace } from '@gantry/model/namespace'
import { connect, connectLocal } from '@gantry/rpc/client'
import { deferred } from '@gantry/rpc/deferred'
import type { TlsKeys } from '@gantry/rpc/tls'
import type { Containers } from './containers.ts'
import type { Events } from './events.ts'
import type { Images } from './images.ts'
import type { Sandboxes } from './sandboxes.ts'
import type { Tasks } from './tasks.ts'
import { type Services, servicesOf, type Wire } from './wire.ts'

// what else a program that uses a client needs: it may not know our other libraries
export { Fault, type FaultCode, ignoring, isFault } from '@gantry/model/fault'
export { normalizeReference } from '@gantry/model/reference'

const DEFAULT_SNAPSHOTTER = 'overlayfs'
const DEFAULT_RUNTIME = 'io.containerd.runc.v2'

export interface ClientOptions {
  /** Absolute path of the socket of Gantry or of containerd, or `tcp://host:port`. */
  readonly address: string
  /** For TCP: our certificate and key, and the CA of the node. */
  readonly tls?: TlsKeys
  readonly namespace: string
  readonly snapshotter?: string
  readonly runtime?: string
  /** Where FIFOs for stdio are made; `fifo` beside the socket unless told. Over TCP there are none unless told. */
  readonly fifoDir?: string
}

export interface GantryClient extends AsyncDisposable {
  readonly namespace: string
  readonly images: Images
  readonly containers: Containers
  readonly tasks: Tasks
  readonly sandboxes: Sandboxes
  readonly events: Events
  /** The plain services, for what has no use case here; make their options with `call`. */
  readonly services: Services
  readonly call: Wire['call']
}

/**
 * A client of one namespace. Nothing is dialled before the first call; a call waits a few seconds for the server.
 *
 * @throws {Fault} `invalid-argument` for a malformed namespace or address
 */
export function createClient(options: ClientOptions): GantryClient {
  const namespace = parseNamespace(options.namespace)
  const { address, tls } = options
  const isLocal = address.startsWith('/')
  if (!isLocal && !address.startsWith('tcp://'))
    throw new Fault('invalid-argument', `Cannot use address "${address}": give an absolute path, or tcp://host:port`)
  const channel = isLocal ? connectLocal(address) : connect(address, tls)
  const wire: Wire = {
    services: servicesOf(channel),
    namespace,
    snapshotter: options.snapshotter ?? DEFAULT_SNAPSHOTTER,
    runtime: options.runtime ?? DEFAULT_RUNTIME,
    fifoDir: options.fifoDir ?? (isLocal ? `${dirname(address)}/fifo` : ''),
    call: (signal, more) => ({ ...more, signal, namespace }),
  }
  const images = deferred<Images>(async () => (await import('./images.ts')).createImages(wire), { exportArchive: true })
  const containers = deferred<Containers>(
    async () => (await import('./containers.ts')).createContainers(wire, images),
    {},
  )
  return {
    namespace,
    images,
    containers,
    tasks: deferred<Tasks>(async () => (await import('./tasks.ts')).createTasks(wire, containers), {}),
    sandboxes: deferred<Sandboxes>(async () => (await import('./sandboxes.ts')).createSandboxes(wire), {}),
    events: deferred<Events>(async () => (await import('./events.ts')).createEvents(wire), { subscribe: true }),
    services: wire.services,
    call: wire.call,
    [Symbol.asyncDispose]: () => channel[Symbol.asyncDispose](),
  }
}
