import type { Image as WireImage } from '@gantry/api/containerd/services/images/v1/images_pb'
import { chainIds } from '@gantry/model/chain-id'
import type { Descriptor } from '@gantry/model/descriptor'
import type { Digest } from '@gantry/model/digest'
import { Fault, ignoring } from '@gantry/model/fault'
import type { ImageConfig } from '@gantry/model/manifest'
import type { ExportOptions, ImportOptions } from './archive.ts'
import type { Login } from './auth.ts'
import { fromWire, readImage } from './content.ts'
import type { HistoryStep } from './history.ts'
import type { PushOptions } from './push.ts'
import { toDate, type Wire } from './wire.ts'

export interface Image {
  readonly name: string
  readonly target: Descriptor
  readonly labels: Readonly<Record<string, string>>
  readonly createdAt: Date
  readonly updatedAt: Date
}

/** An image as one platform sees it. */
export interface ResolvedImage {
  readonly image: Image
  readonly manifest: Descriptor
  readonly config: ImageConfig
  readonly configDigest: Digest
  /** The committed snapshot that holds its unpacked layers; '' for an image without layers. */
  readonly chainId: string
  /** What its manifest, config and layers weigh, compressed, in bytes. */
  readonly size: bigint
}

export interface PullOptions {
  /** `os/arch[/variant]`; the host's unless told. */
  readonly platform?: string
  /** Fetches the image for all platforms that it has; only the one above is unpacked. */
  readonly allPlatforms?: boolean
  readonly plainHttp?: boolean
  readonly snapshotter?: string
  /** `false` fetches only: the image is unpacked when it is first used, or never. */
  readonly unpack?: boolean
  /** Sent when the server asks for them. */
  readonly credentials?: Login
}

/** One line of a progress report; an unnamed one is a status text. Offsets and totals are bytes. */
export interface Progress {
  readonly event: string
  readonly name: string
  readonly parents: readonly string[]
  readonly progress: bigint
  readonly total: bigint
}

export interface Images {
  /** Lets the server pull, unpack and name the image `reference`, which must be complete (see `normalizeReference`). */
  pull(
    reference: string,
    options: PullOptions,
    onProgress: ((progress: Progress) => void) | undefined,
    signal: AbortSignal,
  ): Promise<Image>
  /** Lets the server push the image `name` to where `reference`, which must be complete, says. @throws {Fault} `not-found` */
  push(
    name: string,
    to: { readonly reference: string; readonly options: PushOptions },
    onProgress: (progress: Progress) => void,
    signal: AbortSignal,
  ): Promise<void>
  /** Stores the images of an archive and returns their names. */
  importArchive(
    bytes: AsyncIterable<Uint8Array>,
    options: ImportOptions,
    onProgress: (progress: Progress) => void,
    signal: AbortSignal,
  ): Promise<string[]>
  /** An archive of these images; complete when the iteration ends without an error. @throws {Fault} `not-found` */
  exportArchive(
    names: readonly string[],
    options: ExportOptions,
    onProgress: (progress: Progress) => void,
    signal: AbortSignal,
  ): AsyncIterable<Uint8Array>
  list(filters: readonly string[], signal: AbortSignal): Promise<Image[]>
  /** @throws {Fault} `not-found` */
  get(name: string, signal: AbortSignal): Promise<Image>
  /** With `sync` it returns after the garbage is collected. @throws {Fault} `not-found` */
  delete(name: string, options: { readonly sync?: boolean }, signal: AbortSignal): Promise<void>
  /** Gives the image a further name, replacing what had it. */
  tag(source: string, target: string, signal: AbortSignal): Promise<Image>
  /** How it came to be, by its own word; the latest step first. @throws {Fault} as `resolve` */
  history(name: string, signal: AbortSignal): Promise<HistoryStep[]>
  /** Reads index, manifest and config from the content store. @throws {Fault} `not-found` without a manifest for the platform */
  resolve(name: string, options: { readonly platform?: string }, signal: AbortSignal): Promise<ResolvedImage>
}

export function createImages(wire: Wire): Images {
  const { images } = wire.services
  const get: Images['get'] = async (name, signal) => toImage((await images.get({ name }, wire.call(signal))).image)
  const resolve: Images['resolve'] = async (name, { platform }, signal) => {
    const image = await get(name, signal)
    const documents = await readImage(wire, image.target, platform, signal)
    return { image, ...documents, chainId: chainIds(documents.config.diffIds).at(-1) ?? '' }
  }
  return {
    get,
    resolve,
    history: async (name, signal) =>
      (await import('./history.ts')).readHistory(wire, await resolve(name, {}, signal), signal),
    // what moves images is read when it is needed: most commands only ask for names
    async push(name, to, onProgress, signal) {
      const { push } = await import('./push.ts')
      await push({ wire, images: { get, resolve } }, { name, ...to }, onProgress, signal)
    },
    async importArchive(bytes, options, onProgress, signal) {
      const { importArchive } = await import('./archive.ts')
      return await importArchive(wire, { bytes, options }, onProgress, signal)
    },
    async *exportArchive(names, options, onProgress, signal) {
      const { exportArchive } = await import('./archive.ts')
      yield* exportArchive(wire, { names, options }, onProgress, signal)
    },
    async pull(reference, options, onProgress, signal) {
      const { pull } = await import('./pull.ts')
      await pull(wire, { reference, options }, onProgress, signal)
      return get(reference, signal)
    },
    async list(filters, signal) {
      const reply = await images.list({ filters: [...filters] }, wire.call(signal))
      return reply.images.map(toImage)
    },
    async delete(name, { sync = false }, signal) {
      await images.delete({ name, sync }, wire.call(signal))
    },
    async tag(source, target, signal) {
      const from = await get(source, signal)
      const image = { name: target, labels: { ...from.labels }, target: toWire(from.target) }
      const created = await ignoring('already-exists', images.create({ image }, wire.call(signal)))
      return toImage(created ? created.image : (await images.update({ image }, wire.call(signal))).image)
    },
  }
}

function toImage(image: WireImage | undefined): Image {
  if (!image) throw new Fault('internal', 'Cannot read the image: the reply is empty')
  const { name, labels } = image
  return {
    name,
    labels,
    target: fromWire(image.target),
    createdAt: toDate(image.createdAt),
    updatedAt: toDate(image.updatedAt),
  }
}

function toWire({ mediaType, digest, size, annotations = {} }: Descriptor) {
  return { mediaType, digest, size, annotations: { ...annotations } }
}
