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
  readonly signal: AbortSignal
}

/** Turns fetched layers into snapshots; `snapshots` does the work. */
export interface Unpacker {
  /** What of the wishes can be done here. @throws {Fault} `invalid-argument` when there are wishes and none can */
  plan(wishes: readonly UnpackConfiguration[]): Plan[]
  /**
   * Unpacks the manifests that fit the plans, and ties the snapshots to their image configs.
   *
   * @throws {Fault} `not-found` when no manifest fits, `failed-precondition` when config and layers disagree
   */
  unpack(plans: readonly Plan[], manifests: readonly Manifest[], call: Call): Promise<void>
}

interface UnpackerParts {
  readonly snapshots: Channel
  readonly blobs: Blobs
  /** Snapshotters there are; the first is meant when a client names none. */
  readonly snapshotters: readonly string[]
}

export function createUnpacker({ snapshots, blobs, snapshotters }: UnpackerParts): Unpacker {
  const client = clientOf(Unpack, snapshots)

  async function readConfig(holder: Holder, { config }: Manifest): Promise<ImageConfig> {
    if (config.size > BigInt(MAX_CONFIG_BYTES))
      throw new Fault('failed-precondition', `Cannot unpack: the image config has ${config.size} bytes`)
    return parseImageConfig(await readFile(blobs.locate(holder.namespace, config.digest).path))
  }

  async function unpackImage({ snapshotter }: Plan, image: Image, { holder, progress, signal }: Call): Promise<void> {
    const { layers, diffIds, config } = image
    const request = {
      snapshotter,
      layers: layers.map((blob, at) => ({ blob: toWire(blob), diffId: diffIds[at] ?? '' })),
    }
    let top = ''
    for await (const step of client.unpack(request, { ...holder, signal })) {
      const layer = layers[step.layer]
      if (layer) progress.set(layer, phaseOf(step))
      top = step.chainId || top
    }
    if (top !== '')
      await blobs.relabel(holder.namespace, config.digest, (old) => ({ ...old, ...snapshotLabel(snapshotter, top) }))
    for (const [at, { digest }] of layers.entries()) {
      const diffId = diffIds[at]
      if (diffId) await blobs.relabel(holder.namespace, digest, (old) => ({ ...old, ...plainLabel(diffId) }))
    }
  }

  return {
    plan(wishes) {
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
      return possible
    },

    async unpack(plans, manifests, call) {
      if (plans.length === 0) return
      const images = await Promise.all(
        manifests
          .filter(({ config }) => isConfig(config))
          .map(async (manifest) => imageOf(manifest, await readConfig(call.holder, manifest))),
      )
      for (const plan of plans) {
        const fitting = images.filter(({ platform }) => matcher(plan.platform).match(platform))
        if (fitting.length === 0) throw nothingFits(plan, images)
        for (const image of fitting) await unpackImage(plan, image, call)
      }
    },
  }
}

interface Image extends Pick<ImageConfig, 'platform' | 'diffIds'> {
  readonly config: Descriptor
  readonly layers: readonly Descriptor[]
}

function imageOf({ config, layers }: Manifest, { platform, diffIds }: ImageConfig): Image {
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

function toWire({ mediaType, digest, size }: Descriptor) {
  return { mediaType, digest, size }
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
