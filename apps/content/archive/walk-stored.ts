import { readFile } from 'node:fs/promises'
import type { ImageStore } from '@gantry/api/containerd/types/transfer/imagestore_pb'
import { type Descriptor, isIndex, isManifest } from '@gantry/model/descriptor'
import type { Digest } from '@gantry/model/digest'
import { Fault, isFault } from '@gantry/model/fault'
import { MAX_MANIFEST_BYTES, type Manifest, parseIndex, parseManifest } from '@gantry/model/manifest'
import type { Namespace } from '@gantry/model/namespace'
import { formatPlatform, matcher, type Platform } from '@gantry/model/platform'
import type { Blobs } from '../blobs/blobs.ts'
import { choose } from '../pull/choose.ts'
import { childLabels } from '../pull/labels.ts'

const MAX_DEPTH = 4 // of an index inside an index
const MAX_OBJECTS = 16_384 // manifests, configs and layers together
const MAX_BYTES = 32 * 1024 * 1024 // of manifests, which are in memory together

export interface StoredImages {
  readonly namespace: Namespace
  readonly blobs: Blobs
  /** None means all. */
  readonly platforms: readonly Platform[]
  readonly wish: Pick<ImageStore, 'allMetadata' | 'manifestLimit'>
}

/**
 * Follows an index that was brought in to the manifests a client wants, proves that all their parts are here, and ties
 * them together for the collector.
 *
 * @returns the manifests, of which none is missing a part
 * @throws {Fault} `not-found` when no manifest fits, or a part is not here; `failed-precondition` when documents make no sense
 */
export async function tieStored(index: Descriptor, wanted: StoredImages): Promise<Manifest[]> {
  const { namespace, blobs, platforms, wish } = wanted
  const seen = new Set<Digest>()
  let [objects, bytes] = [0, 0n]

  async function visit(descriptor: Descriptor, depth: number): Promise<Manifest[]> {
    if (isManifest(descriptor)) return [await image(descriptor)]
    if (!isIndex(descriptor)) return check(descriptor) ?? []
    if (depth >= MAX_DEPTH) throw refuse(descriptor.digest, `indexes are nested more than ${MAX_DEPTH} deep`)
    if (depth > 0 && seen.has(descriptor.digest)) return []
    seen.add(descriptor.digest)
    const { manifests } = await readStored(descriptor, wanted, parseIndex)
    const best = { platforms, limit: wish.manifestLimit }
    const chosen = depth === 0 ? everyFitting(manifests, platforms) : choose(manifests, best, descriptor.digest)
    const found: Manifest[] = []
    for (const child of chosen) found.push(...(await visit(child, depth + 1)))
    const others = wish.allMetadata ? manifests.filter((child) => !chosen.includes(child) && isHere(child)) : []
    for (const child of others) if (isManifest(child)) await image(child, 'no layers')
    const here = manifests.filter((child) => chosen.includes(child) || others.includes(child))
    await tie(descriptor, childLabels(here))
    return found
  }

  async function image(descriptor: Descriptor, extent?: 'no layers'): Promise<Manifest> {
    bytes += descriptor.size
    if (bytes > MAX_BYTES) throw refuse(descriptor.digest, `more than ${MAX_BYTES} bytes of manifests`)
    const manifest = await readStored(descriptor, wanted, parseManifest)
    const { config, layers } = manifest
    const parts = extent === 'no layers' ? [config, ...layers].filter(isHere) : [config, ...layers]
    for (const part of parts) check(part)
    await tie(descriptor, childLabels([config, ...layers]))
    return manifest
  }

  function isHere({ digest }: Descriptor): boolean {
    return blobs.has(namespace, digest)
  }

  /** A part that is left out on purpose has addresses to fetch it from. */
  function check(descriptor: Descriptor): undefined {
    if (++objects > MAX_OBJECTS) throw refuse(descriptor.digest, `more than ${MAX_OBJECTS} parts`)
    if (descriptor.urls?.length && !isHere(descriptor)) return
    checkSize(descriptor, blobs.info(namespace, descriptor.digest).size)
  }

  async function tie({ digest }: Descriptor, labels: Readonly<Record<string, string>>): Promise<void> {
    if (Object.keys(labels).length > 0) await blobs.relabel(namespace, digest, (old) => ({ ...old, ...labels }))
  }

  return await visit(index, 0)
}

/** The top of an archive lists images, not platforms of one: each that can run is wanted, not the best of them. */
function everyFitting(manifests: readonly Descriptor[], platforms: readonly Platform[]): readonly Descriptor[] {
  const matchers = platforms.map(matcher)
  const fitting = manifests.filter(
    ({ platform }) => !platform || matchers.length === 0 || matchers.some(({ match }) => match(platform)),
  )
  if (fitting.length > 0) return fitting
  const wish = platforms.length === 0 ? '' : ` for ${platforms.map(formatPlatform).join(', ')}`
  throw new Fault('not-found', `Cannot import the archive: it has no image${wish}`)
}

/**
 * Reads a manifest or an index that is here.
 *
 * @throws {Fault} `not-found`, `failed-precondition` when it is not what its descriptor says
 */
export async function readStored<T>(
  descriptor: Descriptor,
  { namespace, blobs }: Pick<StoredImages, 'namespace' | 'blobs'>,
  parse: (bytes: Uint8Array, mediaType: string) => T,
): Promise<T> {
  const { digest, mediaType } = descriptor
  const { path, size } = blobs.locate(namespace, digest)
  checkSize(descriptor, size)
  if (size > BigInt(MAX_MANIFEST_BYTES)) throw refuse(digest, 'larger than a manifest may be')
  try {
    return parse(await readFile(path), mediaType)
  } catch (error) {
    if (!isFault(error, 'invalid-argument')) throw error
    throw refuse(digest, error.message)
  }
}

function checkSize({ digest, size }: Descriptor, actual: bigint): void {
  if (size !== actual) throw refuse(digest, `it has ${actual} bytes, and is said to have ${size}`)
}

function refuse(digest: Digest, why: string): Fault {
  return new Fault('failed-precondition', `Cannot use ${digest}: ${why}`)
}
