import type { ImageStore } from '@gantry/api/containerd/types/transfer/imagestore_pb'
import { type Descriptor, isIndex, isManifest } from '@gantry/model/descriptor'
import type { Labels } from '@gantry/model/labels'
import { parseIndex, parseManifest } from '@gantry/model/manifest'
import type { Platform } from '@gantry/model/platform'
import { refKey } from '@gantry/model/refkey'
import { traced } from '@gantry/rpc/scope'
import type { Blobs } from '../blobs/blobs.ts'
import type { Growing } from '../blobs/growing.ts'
import type { Ingests } from '../blobs/ingests.ts'
import { held } from '../held.ts'
import type { Images } from '../images.ts'
import type { Holder, Leases } from '../leases.ts'
import type { Registry, Source } from '../registry/registry.ts'
import type { VerifyImage } from '../verify/verify-image.ts'
import type { PullWatch } from '../watch.ts'
import { choose } from './choose.ts'
import { createFetching, type Fetching } from './fetching.ts'
import { createFlights } from './flights.ts'
import { recordsFor } from './image-names.ts'
import { createJobs, type Jobs, together } from './jobs.ts'
import { childLabels } from './labels.ts'
import type { Progress } from './progress.ts'
import type { Unpacker, Unpacking } from './unpacker.ts'

const MAX_DEPTH = 4 // of an index inside an index

export interface PullParts {
  readonly registry: Registry
  readonly blobs: Blobs
  readonly ingests: Ingests
  /** Told of every blob from the moment it is known to be needed. */
  readonly growing: Growing
  readonly leases: Leases
  readonly images: Images
  readonly unpacker: Unpacker
  /** Asked about what was resolved, before anything of it is fetched. */
  readonly verify: VerifyImage
  /** Connections at the same time. */
  readonly downloads: number
  /** Those for one large blob, at most: as many of them as no other blob needs. */
  readonly connections: number
  readonly watch?: Pick<PullWatch, 'blob'>
}

export interface PullRequest {
  readonly source: Source
  readonly store: ImageStore
  /** Of `store`, parsed; none means all. */
  readonly platforms: readonly Platform[]
}

export type Pull = (
  request: PullRequest,
  holder: Holder,
  call: { progress: Progress; signal: AbortSignal },
) => Promise<void>

/**
 * Brings an image from a registry into a namespace:
 *
 *   lease -> resolve -> verify -> manifests, then their configs and layers side by side, which are
 *   unpacked while they come -> image record -> lease released
 *
 * Everything is held by the call's lease, or by one of its own, until the image record holds it. A pull that fails leaves
 * no image and no ingest; blobs that were proven stay until they are collected.
 *
 * @throws {Fault} `not-found` for an unknown reference or platform, `unavailable` naming a registry that is down,
 * `failed-precondition` when registry or image make no sense
 */
export function createPull(parts: PullParts): Pull {
  const flights = createFlights()
  return async ({ source, store, platforms }, call, { progress, signal }) => {
    const { reference } = source
    const purpose = `pull ${reference.text}`
    const plans = parts.unpacker.plan(store.unpacks, progress.say)
    parts.ingests.prepare()
    progress.say(`Resolving from ${reference.text}`)
    const resolving = traced('resolve', { 'oci.reference': reference.text }, () =>
      parts.registry.resolve(source, signal),
    )
    resolving.catch(() => undefined) // heard below
    await using holder = await held(call, () => parts.leases.take(call.namespace, purpose, signal))
    const target = await resolving
    await parts.verify(reference.text, target, signal)
    const records = recordsFor(
      store.name === '' && store.extraReferences.length === 0 ? { ...store, name: reference.text } : store,
      target,
    )

    progress.say(`Pulling from ${reference.text}`)
    progress.say('fetching image content', reference.text)
    const jobs = createJobs(parts.downloads, signal)
    const unpacking = parts.unpacker.begin(plans, { holder, progress, reference: reference.text, signal: jobs.signal })
    const fetching = createFetching({ ...parts, ...holder, source, progress, jobs, flights })
    try {
      await createWalk({ ...parts, ...holder, source, store, platforms, jobs, unpacking, fetching })(target)
      await unpacking.finish()
    } finally {
      await fetching.ended()
    }

    for (const record of records) {
      await parts.images.put(holder, record, signal)
      progress.say('saved', record.name)
    }
    progress.say(`Completed pull from ${reference.text}`)
  }
}

interface Walking extends PullParts, Holder, PullRequest {
  readonly jobs: Jobs
  readonly unpacking: Unpacking
  readonly fetching: Fetching
}

/** Fetches what hangs below a descriptor, and has images unpacked meanwhile. */
function createWalk({ namespace, blobs, source, store, platforms, jobs, unpacking, fetching }: Walking) {
  const { hold, fetch, document, refuse } = fetching

  /** A failure anywhere stops what is fetched elsewhere. */
  async function walk(descriptor: Descriptor, parents: readonly string[], depth: number): Promise<void> {
    try {
      return await visit(descriptor, parents, depth)
    } catch (error) {
      return jobs.fail(error)
    }
  }

  async function visit(descriptor: Descriptor, parents: readonly string[], depth: number): Promise<void> {
    if (isManifest(descriptor)) return await image(descriptor, parents, 'with layers')
    if (!isIndex(descriptor)) return await fetch(descriptor, parents)
    if (depth >= MAX_DEPTH) throw refuse(`its indexes are nested more than ${MAX_DEPTH} deep`)
    const { content, stored } = await document(descriptor, parents, parseIndex)
    const { manifests } = content
    const wanted = choose(manifests, { platforms, limit: store.manifestLimit }, source.reference.text)
    const others = store.allMetadata ? manifests.filter((manifest) => !wanted.includes(manifest)) : []
    const below = [refKey(descriptor)]
    hold([...wanted, ...others.filter(isManifest)])
    await together([
      stored.then(() => relabel(descriptor, childLabels(manifests))),
      ...wanted.map((child) => walk(child, below, depth + 1)),
      ...others.filter(isManifest).map((child) => image(child, below, 'no layers')),
    ])
  }

  async function image(descriptor: Descriptor, parents: readonly string[], extent: 'with layers' | 'no layers') {
    const { content: manifest, stored } = await document(descriptor, parents, parseManifest)
    const { config, layers } = manifest
    const wanted = extent === 'no layers' ? [] : layers
    hold([config, ...wanted])
    const bring = (child: Descriptor): Promise<void> => fetch(child, [refKey(descriptor)])
    const here = bring(config)
    const unpacked = (): Promise<void> => here.then(() => unpacking.add(manifest, descriptor.digest)).catch(jobs.fail)
    const labelled = stored.then(() => relabel(descriptor, childLabels([config, ...layers])))
    await together([labelled, here, ...wanted.map(bring), ...(extent === 'no layers' ? [] : [unpacked()])])
  }

  /** While what it leads to is on its way: until all of it is here, the lease keeps it. */
  async function relabel({ digest }: Descriptor, labels: Labels): Promise<void> {
    const now = blobs.info(namespace, digest).labels
    if (Object.entries(labels).some(([key, value]) => now[key] !== value))
      await blobs.relabel(namespace, digest, (old) => ({ ...old, ...labels }))
  }

  return (target: Descriptor): Promise<void> => walk(target, [source.reference.text], 0)
}
