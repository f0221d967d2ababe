import type { Container as WireContainer } from '@gantry/api/containerd/services/containers/v1/containers_pb'
import { Fault, ignoring, isFault } from '@gantry/model/fault'
import { clearReserved, INIT_LABEL } from '@gantry/model/labels'
import { formatNetwork, NETWORK_LABEL, type NetworkRequest } from '@gantry/model/network'
import {
  EXPLICITLY_STOPPED,
  parseRestartPolicy,
  RESTART_LOG,
  RESTART_POLICY,
  RESTART_STATUS,
} from '@gantry/model/restart'
import { packJson } from './any.ts'
import type { CommitOptions } from './commit.ts'
import type { Copied, CopyOptions } from './copy.ts'
import type { Image, Images, ResolvedImage } from './images.ts'
import { openLease } from './lease.ts'
import type { Change } from './list-changes.ts'
import type { SnapshotMount } from './rootfs.ts'
import type { Spec } from './spec.ts'
import type { IdRange, SpecOptions } from './spec-options.ts'
import { parseSpec } from './spec-parse.ts'
import type { UpdateContainer } from './update.ts'
import { isNumeric, type ResolvedUser, resolveUser, type UserFiles } from './user.ts'
import { toDate, type Wire } from './wire.ts'

const STOP_SIGNAL_LABEL = 'io.containerd.image.config.stop-signal'
const MAPPING_LABEL = 'containerd.io/snapshot/'
const CLEANUP_MS = 10_000 // for undoing, whatever became of the call

export interface Container {
  readonly id: string
  readonly image: string
  readonly runtime: string
  readonly snapshotter: string
  readonly snapshotKey: string
  readonly labels: Readonly<Record<string, string>>
  /** The sandbox that it belongs to, or empty. */
  readonly sandbox: string
  readonly createdAt: Date
  readonly updatedAt: Date
  /** The OCI runtime spec; `undefined` when it is none that we can read. */
  readonly spec: Spec | undefined
  /** The mounts of its snapshot, when they are known already: after `create`. */
  readonly rootfs?: readonly SnapshotMount[]
}

export interface CreateContainer {
  readonly id: string
  /** The name of an image that is there and unpacked. */
  readonly image: string
  readonly platform?: string
  readonly snapshotter?: string
  /** A runtime name such as `io.containerd.runc.v2`; the default unless told. */
  readonly runtime?: string
  readonly labels?: Readonly<Record<string, string>>
  readonly spec: SpecOptions
  /** A network that the node makes for it while it runs; `spec.network` is left out then. Gantry only, not containerd. */
  readonly network?: NetworkRequest
  /** `always`, `unless-stopped`, `on-failure[:times]`: counts once `want` is told that it is to run: between the create and the start of its task. */
  readonly restart?: string
  /** Where its output goes while nobody is attached: `file:///path` or `binary:///path?key=value` on the node. */
  readonly logUri?: string
  /** The sandbox whose namespaces it is to share: it has to run when the task is created. */
  readonly sandbox?: string
  /** A small first process that passes signals on and reaps what is orphaned. Gantry only, not containerd. */
  readonly init?: boolean
}

export interface Containers {
  /**
   * Prepares a snapshot named like the container and writes the record, both or neither.
   *
   * @throws {Fault} `not-found` without the image, `already-exists`, `failed-precondition` when the image is not unpacked
   */
  create(options: CreateContainer, signal: AbortSignal): Promise<Container>
  list(filters: readonly string[], signal: AbortSignal): Promise<Container[]>
  /** @throws {Fault} `not-found` */
  get(id: string, signal: AbortSignal): Promise<Container>
  /**
   * What a container with a restart policy is to be from now on: the node keeps it running, or leaves it when it ends. Does
   * not start or stop it by itself.
   */
  want(id: string, what: 'running' | 'stopped', signal: AbortSignal): Promise<void>
  /** Changes limits, also of what runs, or the restart policy. @throws {Fault} `invalid-argument` */
  update(id: string, changes: UpdateContainer, signal: AbortSignal): Promise<void>
  /** Makes an image of what it has written. @throws {Fault} what `commitContainer` says */
  commit(id: string, options: CommitOptions, signal: AbortSignal): Promise<Image>
  /** What it has written and deleted, sorted by path; for root on the node. @throws {Fault} what `listChanges` says */
  changes(id: string, signal: AbortSignal): Promise<Change[]>
  /** Copies files into a container, or out of it. @throws {Fault} what `copy` says */
  copy(options: CopyOptions, signal: AbortSignal): Promise<Copied>
  /**
   * Deletes the record and its snapshot (kept with `keepSnapshot`). With `force` its task is killed and deleted before.
   *
   * @throws {Fault} `not-found`, `failed-precondition` while it has a task
   */
  delete(
    id: string,
    options: { readonly keepSnapshot?: boolean; readonly force?: boolean },
    signal: AbortSignal,
  ): Promise<void>
}

export function createContainers(wire: Wire, images: Images): Containers {
  const { containers, snapshots, tasks } = wire.services
  const get: Containers['get'] = async (id, signal) =>
    toContainer((await containers.get({ id }, wire.call(signal))).container)
  const want: Containers['want'] = async (id, what, signal) => {
    const labels = { [RESTART_STATUS]: what, [EXPLICITLY_STOPPED]: String(what === 'stopped') }
    const paths = Object.keys(labels).map((name) => `labels.${name}`)
    await containers.update({ container: { id, labels }, updateMask: { paths } }, wire.call(signal))
  }
  return {
    get,
    want,
    update: async (id, changes, signal) => (await import('./update.ts')).updateContainer(wire, id, changes, signal),
    create: (options, signal) => create(wire, images, options, signal),
    async commit(id, options, signal) {
      const container = await get(id, signal)
      return (await import('./commit.ts')).commitContainer({ wire, images }, { container, ...options }, signal)
    },
    copy: async (options, signal) => (await import('./copy.ts')).copy(wire, (id) => get(id, signal), options, signal),
    changes: async (id, signal) => (await import('./list-changes.ts')).listChanges(wire, await get(id, signal), signal),
    async list(filters, signal) {
      const reply = await containers.list({ filters: [...filters] }, wire.call(signal))
      return reply.containers.map(toContainer)
    },
    async delete(id, { keepSnapshot = false, force = false }, signal) {
      const { snapshotter, snapshotKey, labels } = await get(id, signal)
      if (force && labels[RESTART_STATUS] === 'running') await want(id, 'stopped', signal)
      const task = await ignoring('not-found', tasks.get({ containerId: id }, wire.call(signal)))
      if (task && !force) throw new Fault('failed-precondition', `Cannot delete container "${id}": it has a task`)
      if (task) await endTask(wire, id, signal)
      await containers.delete({ id }, wire.call(signal))
      if (keepSnapshot || snapshotKey === '') return
      await ignoring('not-found', snapshots.remove({ snapshotter, key: snapshotKey }, wire.call(signal)))
    },
  }
}

async function endTask(wire: Wire, containerId: string, signal: AbortSignal): Promise<void> {
  const { createProcess } = await import('./process.ts')
  const task = createProcess(wire, { containerId, execId: '' }, undefined)
  await ignoring('not-found', task.kill('SIGKILL', { all: true }, signal)) // it may have ended
  await wire.services.tasks.resume({ containerId }, wire.call(signal)).catch(() => undefined) // a frozen process obeys nothing
  await ignoring('not-found', task.wait(signal))
  await ignoring('not-found', task.delete(signal))
}

/** Finds a user in the image a snapshot is made of. Root and plain numbers do without the image when it cannot be read. */
export async function findUser(text: string, mounts: () => Promise<readonly SnapshotMount[]>): Promise<ResolvedUser> {
  const read = async (path: string) => (await import('./rootfs.ts')).readFromSnapshot(await mounts(), path)
  const files: UserFiles = { passwd: () => read('etc/passwd'), group: () => read('etc/group') }
  try {
    return await resolveUser(text, files)
  } catch (error) {
    if (!isNumeric(text) || isFault(error, 'invalid-argument')) throw error
    return resolveUser(text, { passwd: async () => '', group: async () => '' })
  }
}

/** A lease keeps the snapshot until the record that refers to it is written. */
async function create(wire: Wire, images: Images, options: CreateContainer, signal: AbortSignal): Promise<Container> {
  const { id, platform } = options
  const snapshotter = options.snapshotter ?? wire.snapshotter
  await using held = openLease(wire, signal) // made while the image is read
  const image = await images.resolve(options.image, platform === undefined ? {} : { platform }, signal)
  const lease = await held.id
  const labels = mappingLabels(options.spec)
  const mounts = await prepare(wire, { snapshotter, key: id, image, lease, labels }, signal)
  try {
    const [{ buildSpec, userOf }, { thisHost }] = await Promise.all([import('./spec.ts'), import('./host.ts')])
    const defaults = image.config.config
    const user = await findUser(userOf(options.spec, defaults), async () => mounts)
    const spec = buildSpec({
      namespace: wire.namespace,
      id,
      image: defaults,
      user,
      options: options.spec,
      host: thisHost,
    })
    const container = {
      id,
      image: options.image,
      labels: labelsOf(image, options),
      runtime: { name: options.runtime ?? wire.runtime },
      spec: packJson('Spec', spec),
      snapshotter,
      snapshotKey: id,
      sandbox: options.sandbox ?? '',
    }
    const reply = await wire.services.containers.create({ container }, wire.call(signal, { lease }))
    return { ...toContainer(reply.container), rootfs: mounts }
  } catch (error) {
    const cleanup = AbortSignal.timeout(CLEANUP_MS)
    await wire.services.snapshots.remove({ snapshotter, key: id }, wire.call(cleanup)).catch(() => undefined)
    throw error
  }
}

async function prepare(
  wire: Wire,
  snapshot: {
    snapshotter: string
    key: string
    image: ResolvedImage
    lease: string
    labels: Record<string, string>
  },
  signal: AbortSignal,
): Promise<readonly SnapshotMount[]> {
  const { snapshotter, key, image, lease, labels } = snapshot
  try {
    const request = { snapshotter, key, parent: image.chainId, labels }
    const { mounts } = await wire.services.snapshots.prepare(request, wire.call(signal, { lease }))
    const isMapped = mounts.some(({ options }) => options.some((option) => option.startsWith('uidmap=')))
    if (Object.keys(labels).length === 0 || isMapped) return mounts
    const cleanup = AbortSignal.timeout(CLEANUP_MS)
    await wire.services.snapshots.remove({ snapshotter, key }, wire.call(cleanup)).catch(() => undefined)
    throw new Fault('failed-precondition', `Cannot map ids: ${snapshotter} cannot map those of files on this host`)
  } catch (cause) {
    if (!isFault(cause, 'not-found')) throw cause
    throw new Fault(
      'failed-precondition',
      `Cannot use "${image.image.name}": not unpacked for ${snapshotter}, pull it`,
      {
        cause,
      },
    )
  }
}

/** The files of the image belong to whom they should inside: the snapshotter maps them as the container maps ids. */
function mappingLabels({ userns }: SpecOptions): Record<string, string> {
  if (!userns) return {}
  const text = (ranges: readonly IdRange[]): string =>
    ranges.map(({ container, host, size }) => `${container}:${host}:${size}`).join(',')
  return { [`${MAPPING_LABEL}uidmapping`]: text(userns.uids), [`${MAPPING_LABEL}gidmapping`]: text(userns.gids) }
}

/** What an image says about its containers, without what it may not say; over that what the caller says. */
function labelsOf(
  { config: { config } }: ResolvedImage,
  { labels, network, init, restart, logUri }: CreateContainer,
): Record<string, string> {
  return {
    ...clearReserved(config.labels),
    ...(config.stopSignal !== '' && { [STOP_SIGNAL_LABEL]: config.stopSignal }),
    ...labels,
    ...(network && { [NETWORK_LABEL]: formatNetwork(network) }),
    ...(init && { [INIT_LABEL]: 'true' }),
    ...(restart !== undefined && { [RESTART_POLICY]: checkedPolicy(restart) }),
    ...(logUri !== undefined && { [RESTART_LOG]: logUri }),
  }
}

function checkedPolicy(text: string): string {
  parseRestartPolicy(text)
  return text
}

function toContainer(container: WireContainer | undefined): Container {
  if (!container) throw new Fault('internal', 'Cannot read the container: the reply is empty')
  const { id, image, snapshotter, snapshotKey, labels, sandbox } = container
  return {
    id,
    image,
    snapshotter,
    snapshotKey,
    labels,
    sandbox,
    runtime: container.runtime?.name ?? '',
    createdAt: toDate(container.createdAt),
    updatedAt: toDate(container.updatedAt),
    spec: container.spec && parseSpec(container.spec.value),
  }
}
