import { type Descriptor, isIndex, isManifest, MEDIA } from '@gantry/model/descriptor'
import { Fault } from '@gantry/model/fault'
import { type Manifest, parseIndex, parseManifest } from '@gantry/model/manifest'
import type { Namespace } from '@gantry/model/namespace'
import { formatPlatform, hostPlatform, type Platform, strictMatcher } from '@gantry/model/platform'
import { refKey } from '@gantry/model/refkey'
import type { Blobs } from '../blobs/blobs.ts'
import { choose } from '../pull/choose.ts'
import { readStored } from './walk-stored.ts'

const MAX_DEPTH = 4 // of an index inside an index
const FOREIGN: readonly string[] = [MEDIA.dockerForeignLayer, MEDIA.dockerForeignLayerGzip]

export interface Selection {
  readonly namespace: Namespace
  readonly blobs: Blobs
  readonly platforms: readonly Platform[]
  readonly allPlatforms: boolean
  readonly skipNonDistributable: boolean
}

/** What belongs to an image as far as it was asked for. */
export interface Collected {
  /** With the descriptor that names each. */
  readonly manifests: readonly (Manifest & { readonly descriptor: Descriptor })[]
  /** All blobs, children before those that name them. */
  readonly parts: readonly Descriptor[]
  /** The names of those that name a blob, by its digest; the target has none. */
  readonly parents: ReadonlyMap<string, readonly string[]>
}

/** @throws {Fault} `not-found` when a part is not here, or an index has nothing for the platforms */
export async function collect(target: Descriptor, selection: Selection): Promise<Collected> {
  const { namespace, blobs } = selection
  const manifests: (Manifest & { readonly descriptor: Descriptor })[] = []
  const parts = new Map<string, Descriptor>()
  const parents = new Map<string, string[]>()
  const take = (descriptor: Descriptor): void => {
    blobs.info(namespace, descriptor.digest)
    parts.set(descriptor.digest, descriptor)
  }
  const bear = (child: Descriptor, parent: Descriptor): void => {
    parents.set(child.digest, [...(parents.get(child.digest) ?? []), refKey(parent)])
  }

  async function visit(descriptor: Descriptor, depth: number): Promise<void> {
    if (parts.has(descriptor.digest)) return
    if (depth > MAX_DEPTH)
      throw new Fault(
        'failed-precondition',
        `Cannot read ${target.digest}: indexes are nested more than ${MAX_DEPTH} deep`,
      )
    if (isIndex(descriptor)) {
      const index = await readStored(descriptor, selection, parseIndex)
      for (const child of select(index.manifests, selection, target)) {
        bear(child, descriptor)
        await visit(child, depth + 1)
      }
    } else if (isManifest(descriptor)) {
      const manifest = await readStored(descriptor, selection, parseManifest)
      for (const part of [manifest.config, ...manifest.layers].filter((one) => isWanted(one, selection))) {
        bear(part, descriptor)
        take(part)
      }
      manifests.push({ ...manifest, descriptor })
    }
    take(descriptor)
  }

  await visit(target, 0)
  return { manifests, parts: [...parts.values()], parents }
}

/** Without a wish it is this host's platform to the letter; those made for none in particular come along. */
function select(manifests: readonly Descriptor[], selection: Selection, target: Descriptor): Descriptor[] {
  const { platforms, allPlatforms } = selection
  if (allPlatforms || manifests.length === 0) return [...manifests]
  if (platforms.length > 0) return choose(manifests, { platforms, limit: 0 }, target.digest)
  const host = strictMatcher(hostPlatform())
  const chosen = manifests.filter(({ platform }) => !platform || host.match(platform))
  if (chosen.length > 0) return chosen
  throw new Fault('not-found', `${target.digest}: no manifest for ${formatPlatform(hostPlatform())}`)
}

/** A layer that may not be handed on is left out when that is wished, and when only its addresses are known. */
function isWanted(
  { mediaType, digest, urls }: Descriptor,
  { namespace, blobs, skipNonDistributable }: Selection,
): boolean {
  const foreign =
    FOREIGN.includes(mediaType) || mediaType.startsWith('application/vnd.oci.image.layer.nondistributable.')
  return !foreign || (!skipNonDistributable && (!urls?.length || blobs.has(namespace, digest)))
}
