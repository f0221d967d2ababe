import { createHash } from 'node:crypto'
import { type Descriptor, isIndex, isManifest } from '@gantry/model/descriptor'
import { type Digest, digestParts, parseDigest } from '@gantry/model/digest'
import { Fault } from '@gantry/model/fault'
import { type ImageConfig, MAX_CONFIG_BYTES, parseImageConfig, parseIndex, parseManifest } from '@gantry/model/manifest'
import { hostPlatform, type Matcher, matcher, parsePlatform } from '@gantry/model/platform'
import type { Wire } from './wire.ts'

const MAX_DEPTH = 4 // indexes inside indexes
const MAX_BYTES = BigInt(MAX_CONFIG_BYTES) // of a document read into memory

export interface ImageDocuments {
  readonly manifest: Descriptor
  readonly configDigest: Digest
  readonly config: ImageConfig
  /** Manifest, config and layers, in bytes. */
  readonly size: bigint
}

/**
 * Follows an image's target to the manifest that fits best and to its config.
 *
 * @param platform `os/arch[/variant]`, the host's when undefined
 * @throws {Fault} `not-found` when nothing fits or a document is missing
 */
export async function readImage(
  wire: Wire,
  target: Descriptor,
  platform: string | undefined,
  signal: AbortSignal,
): Promise<ImageDocuments> {
  const wanted = matcher(platform === undefined ? hostPlatform() : parsePlatform(platform))
  const manifest = await findManifest(wire, target, wanted, signal)
  const document = parseManifest(await readDocument(wire, manifest, signal))
  const config = parseImageConfig(await readDocument(wire, document.config, signal))
  const size = document.layers.reduce((sum, layer) => sum + layer.size, manifest.size + document.config.size)
  return { manifest, configDigest: document.config.digest, config, size }
}

/** Reads a small blob whole and proves its digest. @throws {Fault} `not-found`, `data-loss` */
export async function readDocument(wire: Wire, descriptor: Descriptor, signal: AbortSignal): Promise<Uint8Array> {
  if (descriptor.size > MAX_BYTES)
    throw new Fault(
      'invalid-argument',
      `Cannot read ${descriptor.digest}: ${descriptor.size} bytes are too many for a document`,
    )
  const chunks: Uint8Array[] = []
  let length = 0n
  for await (const { data } of wire.services.content.read({ digest: descriptor.digest }, wire.call(signal))) {
    length += BigInt(data.length)
    if (length > MAX_BYTES) throw new Fault('data-loss', `Cannot read ${descriptor.digest}: longer than it says`)
    chunks.push(data)
  }
  const bytes = Buffer.concat(chunks)
  const { algorithm, hex } = digestParts(descriptor.digest)
  if (createHash(algorithm).update(bytes).digest('hex') !== hex)
    throw new Fault('data-loss', `Cannot read ${descriptor.digest}: the stored bytes are others`)
  return bytes
}

/** The descriptor of a message; platform and URLs do not travel. @throws {Fault} `invalid-argument` */
export function fromWire(
  descriptor: { mediaType: string; digest: string; size: bigint; annotations: Record<string, string> } | undefined,
): Descriptor {
  if (!descriptor) throw new Fault('internal', 'Cannot read the image: it has no target')
  const { mediaType, size, annotations } = descriptor
  return { mediaType, digest: parseDigest(descriptor.digest), size, annotations }
}

async function findManifest(wire: Wire, target: Descriptor, wanted: Matcher, signal: AbortSignal): Promise<Descriptor> {
  let at = target
  for (let depth = 0; isIndex(at); depth++) {
    if (depth === MAX_DEPTH)
      throw new Fault('failed-precondition', `Cannot read ${target.digest}: indexes nest too deep`)
    const index = parseIndex(await readDocument(wire, at, signal))
    const next = bestOf(index.manifests, wanted)
    if (!next) throw new Fault('not-found', `Cannot find a manifest in ${at.digest}: none fits the platform`)
    at = next
  }
  if (!isManifest(at))
    throw new Fault('failed-precondition', `Cannot read ${at.digest}: it is ${at.mediaType}, no manifest`)
  return at
}

/** Those that name no platform come last; of equals the first wins. */
function bestOf(manifests: readonly Descriptor[], wanted: Matcher): Descriptor | undefined {
  const usable = manifests.filter((one) => isManifest(one) || isIndex(one))
  const fitting = usable.filter((one) => one.platform && wanted.match(one.platform))
  const best = fitting.reduce<Descriptor | undefined>(
    (winner, one) => (!winner?.platform || (one.platform && wanted.less(one.platform, winner.platform)) ? one : winner),
    undefined,
  )
  return best ?? usable.find((one) => !one.platform)
}
