import { randomUUID } from 'node:crypto'
import { WriteAction } from '@gantry/api/containerd/services/content/v1/content_pb'
import { Status } from '@gantry/api/containerd/types/task/task_pb'
import { chainIds } from '@gantry/model/chain-id'
import { type Descriptor, MEDIA } from '@gantry/model/descriptor'
import { type Digest, sha256Of } from '@gantry/model/digest'
import { Fault, ignoring, isFault } from '@gantry/model/fault'
import { parseImageConfig, parseManifest } from '@gantry/model/manifest'
import { openChanges, toWire, unpackLayer } from './changes.ts'
import type { Container } from './containers.ts'
import { readDocument } from './content.ts'
import { type ConfigChange, configWithLayer } from './image-config.ts'
import type { Image, Images } from './images.ts'
import { openLease } from './lease.ts'
import type { Wire } from './wire.ts'

const CLEANUP_MS = 10_000 // for what is not left half done, whatever became of the call

export interface CommitOptions {
  /** The name of the image to be, complete; what had it before loses it. */
  readonly reference: string
  readonly change?: ConfigChange
  readonly message?: string
  readonly author?: string
  /** Freezes what runs while its files are read, unless it is `false`. */
  readonly pause?: boolean
}

/** The lower layers of the image to be, and all that is said of them. */
interface Base {
  readonly isDocker: boolean
  readonly layers: readonly Descriptor[]
  readonly diffIds: readonly Digest[]
  readonly config: Uint8Array
}

/**
 * Makes an image of what a container has written on top of its own image, and unpacks it. Its name comes last: a failure or a
 * crash leaves what the lease of the call holds, a day at most. One that is killed in between leaves the container frozen.
 *
 * @throws {Fault} `failed-precondition` when the image of the container has other layers by now, or its ids are mapped
 */
export async function commitContainer(
  { wire, images }: { readonly wire: Wire; readonly images: Images },
  { container, ...options }: CommitOptions & { readonly container: Container },
  signal: AbortSignal,
): Promise<Image> {
  await using held = openLease(wire, signal)
  const lease = await held.id
  const { snapshotter, snapshotKey: key } = container
  const freezing = { containerId: container.id, wanted: options.pause ?? true }
  const { parent, layer, diffId } = await frozen(wire, freezing, signal, async () => {
    await using changes = await openChanges(wire, { snapshotter, key }, lease, signal)
    if (changes.mounts.some((mount) => mount.options.some((option) => option.startsWith('uidmap='))))
      throw new Fault('failed-precondition', `Cannot commit "${container.id}": the ids of its files are mapped`)
    return { parent: changes.parent, ...(await changes.pack(MEDIA.ociLayerGzip)) }
  })
  const base = await baseOf(wire, images, { container, parent, lease }, signal)
  const stack = [...base.diffIds, diffId]
  const name = await unpackLayer(wire, { snapshotter, stack, layer, lease }, signal)
  const { change = {}, author, message: comment, reference } = options
  const step = { diffId, created: new Date(), createdBy: 'gantry commit', author, comment, change }
  const layers = [...base.layers, layer]
  const documents = createDocuments(wire, { lease, isDocker: base.isDocker }, signal)
  const config = await documents.config(configWithLayer(base.config, base.layers.length, step), { snapshotter, name })
  const target = toWire(await documents.manifest(config, layers))
  signal.throwIfAborted()
  // done or not done, whoever interrupts
  const { images: names } = wire.services
  const last = wire.call(AbortSignal.timeout(CLEANUP_MS))
  const image = { name: reference, target }
  if (!(await ignoring('already-exists', names.create({ image }, last)))) await names.update({ image }, last)
  return images.get(reference, signal)
}

/** Freezes a container that runs while `work` is done. One that is frozen stays so. */
async function frozen<T>(
  wire: Wire,
  { containerId, wanted }: { readonly containerId: string; readonly wanted: boolean },
  signal: AbortSignal,
  work: () => Promise<T>,
): Promise<T> {
  const { tasks } = wire.services
  const request = { containerId }
  const found = wanted ? await ignoring('not-found', tasks.get(request, wire.call(signal))) : undefined
  if (found?.process?.status !== Status.RUNNING) return work()
  try {
    // also when it is interrupted: one that is frozen after we have looked whether it is would stay so
    await tasks.pause(request, wire.call(AbortSignal.timeout(CLEANUP_MS)))
    signal.throwIfAborted()
    return await work()
  } finally {
    // one that has ended meanwhile cannot
    const now = await ignoring('not-found', tasks.get(request, wire.call(AbortSignal.timeout(CLEANUP_MS))))
    if (now?.process?.status === Status.PAUSED) await tasks.resume(request, wire.call(AbortSignal.timeout(CLEANUP_MS)))
  }
}

/**
 * What the image of a container says, as far up as the container stands on it: what was committed from it under the same name
 * has more layers.
 */
async function baseOf(
  wire: Wire,
  images: Images,
  { container: { id, image }, parent, lease }: { readonly container: Container; parent: string; lease: string },
  signal: AbortSignal,
): Promise<Base> {
  if (image === '') throw new Fault('failed-precondition', `Cannot commit "${id}": it was made of no image`)
  const { manifest } = await images.resolve(image, {}, signal)
  const resource = { id: manifest.digest, type: 'content' } // with its layers, should its name go meanwhile
  await wire.services.leases.addResource({ id: lease, resource }, wire.call(signal))
  const { config: descriptor, layers } = parseManifest(await readDocument(wire, manifest, signal))
  const config = await readDocument(wire, descriptor, signal)
  const { diffIds } = parseImageConfig(config)
  const height = parent === '' ? 0 : chainIds(diffIds).map(String).indexOf(parent) + 1
  if (parent !== '' && height === 0)
    throw new Fault(
      'failed-precondition',
      `Cannot commit "${id}": "${image}" is not the image any more that it was made of`,
    )
  const isDocker = manifest.mediaType === MEDIA.dockerManifest
  return { isDocker, layers: layers.slice(0, height), diffIds: diffIds.slice(0, height), config }
}

/** Stores the documents of an image, each with what it refers to. */
function createDocuments(
  wire: Wire,
  { lease, isDocker }: { readonly lease: string; readonly isDocker: boolean },
  signal: AbortSignal,
) {
  const leased = wire.call(signal, { lease })
  async function write(mediaType: string, bytes: Uint8Array, refs: Record<string, string>): Promise<Descriptor> {
    const digest = sha256Of(bytes)
    const labels = Object.fromEntries(
      Object.entries(refs).map(([key, value]) => [`containerd.io/gc.ref.${key}`, value]),
    )
    const size = BigInt(bytes.length)
    const whole = { action: WriteAction.COMMIT, ref: `gantry-commit-${randomUUID()}`, data: bytes, labels }
    try {
      const writing = wire.services.content.write(once({ ...whole, total: size, expected: digest }), leased)
      for await (const _ of writing);
    } catch (error) {
      if (!isFault(error, 'already-exists')) throw error
      const paths = Object.keys(labels).map((key) => `labels.${key}`)
      await wire.services.content.update({ info: { digest, labels }, updateMask: { paths } }, leased)
    }
    return { mediaType, digest, size }
  }
  return {
    config: (bytes: Uint8Array, { snapshotter, name }: { readonly snapshotter: string; readonly name: string }) =>
      write(isDocker ? MEDIA.dockerConfig : MEDIA.ociConfig, bytes, { [`snapshot.${snapshotter}`]: name }),
    manifest(config: Descriptor, layers: readonly Descriptor[]) {
      const mediaType = isDocker ? MEDIA.dockerManifest : MEDIA.ociManifest
      const kinds = layers.map((layer) =>
        isDocker && layer.mediaType === MEDIA.ociLayerGzip ? { ...layer, mediaType: MEDIA.dockerLayerGzip } : layer,
      )
      const document = { schemaVersion: 2, mediaType, config: toJson(config), layers: kinds.map(toJson) }
      const refs = layers.map(({ digest }, at): [string, string] => [`content.l.${at}`, digest])
      return write(mediaType, Buffer.from(JSON.stringify(document)), {
        'content.config': config.digest,
        ...Object.fromEntries(refs),
      })
    },
  }
}

async function* once<T>(message: T): AsyncGenerator<T> {
  yield message
}

function toJson({ mediaType, digest, size, annotations, urls }: Descriptor) {
  return { mediaType, digest, size: Number(size), ...(annotations && { annotations }), ...(urls && { urls }) }
}
