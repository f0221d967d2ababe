import { readFile } from 'node:fs/promises'
import type { UnpackConfiguration } from '@gantry/api/containerd/types/transfer/imagestore_pb'
import { Unpack, type UnpackProgress, Phase as WirePhase } from '@gantry/api/gantry/snapshots/v1/unpack_pb'
import { type Descriptor, isConfig, isLayer } from '@gantry/model/descriptor'
import { Fault } from '@gantry/model/fault'
import { type ImageConfig, MAX_CONFIG_BYTES, type Manifest, parseImageConfig } from '@gantry/model/manifest'
import { formatPlatform, hostPlatform, matcher, normalizePlatform, type Platform } from '@gantry/model/platform'
import { type Channel, clientOf } from '@gantry/rpc/client'
import type { Blobs } from '../blobs/blobs.ts'
import type { Holder } from '../leases.ts'
import { plainLabel, snapshotLabel } from './labels.ts'
import type { Progress } from './progress.ts'

/** What a client wants unpacked, and with what. */
export interface Plan {
  readonly platform: Platform
  readonly snapshotter: string
}

interface Call {
  readonly holder: Holder
  readonly progress: Progress
  /** Where the images come from, when that is a registry. */
  readonly reference?: string
  readonly signal: AbortSignal
}

/** Turns fetched layers into snapshots; `snapshots` does the work. */
export interface Unpacker {
  /**
   * What of the wishes can be done here; each of the others is a line for `warn`, and for the log.
   *
   * @throws {Fault} `invalid-argument` when there are wishes and none can
   */
  plan(wishes: readonly UnpackConfiguration[], warn: (line: string) => void): Plan[]
  begin(plans: readonly Plan[], call: Call): Unpacking
}

/** The images of one call. */
export interface Unpacking {
  /**
   * Unpacks an image once for each plan that it fits. Its config is here; its layers are, or are on their way.
   *
   * @param digest of the manifest, when it comes from a registry
   * @throws {Fault} `failed-precondition` when config and layers disagree
   */
  add(manifest: Manifest, digest?: string): Promise<void>
  /**
   * All that was added is unpacked, and its layers are here: ties the snapshots to the image configs.
   *
   * @throws {Fault} `not-found` when no image fits a plan
   */
  finish(): Promise<void>
}

interface UnpackerParts {
  readonly snapshots: Channel
  readonly blobs: Blobs
  /** Snapshotters there are; the first is meant when a client names none. */
  readonly snapshotters: readonly string[]
  readonly log: { warn(fields: object, message: string): void }
}

export function createUnpacker({ snapshots, blobs, snapshotters, log }: UnpackerParts): Unpacker {
  const client = clientOf(Unpack, snapshots)

  async function readConfig(holder: Holder, { config }: Manifest): Promise<ImageConfig> {
    const { path, size } = blobs.locate(holder.namespace, config.digest)
    if (size > BigInt(MAX_CONFIG_BYTES))
      throw new Fault('failed-precondition', `Cannot unpack: the image config has ${size} bytes`)
    return parseImageConfig(await readFile(path))
  }

  /** @returns the name of the top snapshot */
  async function unpackImage(
    { snapshotter }: Plan,
    image: Image,
    { holder, progress, reference = '', signal }: Call,
  ): Promise<string> {
    const { layers, diffIds, digest: manifest } = image
    const request = {
      ...{ snapshotter, reference, manifest },
      layers: layers.map((blob, at) => ({ blob: toWire(blob), diffId: diffIds[at] ?? '' })),
    }
    let top = ''
    for await (const step of client.unpack(request, { ...holder, signal })) {
      const layer = layers[step.layer]
      if (layer) progress.set(layer, phaseOf(step))
      top = step.chainId || top
    }
    return top
  }

  async function tie({ plan, image, top }: Unpacked, { holder }: Call): Promise<void> {
    const { layers, diffIds, config } = image
    const { snapshotter } = plan
    if (top !== '')
      await blobs.relabel(holder.namespace, config.digest, (old) => ({ ...old, ...snapshotLabel(snapshotter, top) }))
    for (const [at, { digest }] of layers.entries()) {
      const diffId = diffIds[at]
      if (diffId) await blobs.relabel(holder.namespace, digest, (old) => ({ ...old, ...plainLabel(diffId) }))
    }
  }

  return {
    plan(wishes, warn) {
      const plans = wishes.map(({ platform, snapshotter }) => ({
        platform: platform ? normalizePlatform(platform) : hostPlatform(),
        snapshotter: snapshotter || (snapshotters[0] ?? ''),
      }))
      const possible = plans.filter(
        ({ platform, snapshotter }) => platform.os === hostPlatform().os && snapshotters.includes(snapshotter),
      )
      if (plans.length > 0 && possible.length === 0)
        throw new Fault(
          'invalid-argument',
          `Cannot unpack with ${plans.map(describe).join(', ')}: there is only ${snapshotters.join(', ')}`,
        )
      for (const plan of plans.filter((each) => !possible.includes(each))) {
        const line = `Not unpacked with ${describe(plan)}: there is only ${snapshotters.join(', ')}`
        log.warn({}, line)
        warn(line)
      }
      return possible
    },

    begin(plans, call) {
      const images: Image[] = []
      const unpacked: Unpacked[] = []
      return {
        async add(manifest, digest = '') {
          if (plans.length === 0 || !isConfig(manifest.config)) return
          const image = { ...imageOf(manifest, await readConfig(call.holder, manifest)), digest }
          images.push(image)
          for (const plan of plans.filter(({ platform }) => matcher(platform).match(image.platform)))
            unpacked.push({ plan, image, top: await unpackImage(plan, image, call) })
        },
        async finish() {
          const unmet = plans.find((wanted) => !unpacked.some(({ plan }) => plan === wanted))
          if (unmet) throw nothingFits(unmet, images)
          for (const each of unpacked) await tie(each, call)
        },
      }
    },
  }
}

interface Image extends Pick<ImageConfig, 'platform' | 'diffIds'> {
  readonly config: Descriptor
  readonly layers: readonly Descriptor[]
  /** Of the manifest; '' when it comes from no registry. */
  readonly digest: string
}

interface Unpacked {
  readonly plan: Plan
  readonly image: Image
  /** Name of the top snapshot; '' when there are no layers. */
  readonly top: string
}

function imageOf({ config, layers }: Manifest, { platform, diffIds }: ImageConfig): Omit<Image, 'digest'> {
  const real = layers.filter(isLayer)
  if (real.length !== diffIds.length)
    throw new Fault(
      'failed-precondition',
      `Cannot unpack ${config.digest}: ${real.length} layers, but ${diffIds.length} diff IDs`,
    )
  return { platform, diffIds, config, layers: real }
}

function phaseOf({ phase }: UnpackProgress): 'extracting' | 'extracted' {
  return phase === WirePhase.EXTRACTING ? 'extracting' : 'extracted'
}

function toWire({ mediaType, digest, size, annotations = {} }: Descriptor) {
  return { mediaType, digest, size, annotations: { ...annotations } }
}

function describe({ platform, snapshotter }: Plan): string {
  return `${snapshotter} for ${formatPlatform(platform)}`
}

function nothingFits({ platform }: Plan, images: readonly Image[]): Fault {
  const there =
    images
      .map((image) => formatPlatform(image.platform))
      .join(', ')
      .slice(0, 512) || 'no image'
  return new Fault('not-found', `Cannot unpack for ${formatPlatform(platform)}: there is ${there}`)
}
