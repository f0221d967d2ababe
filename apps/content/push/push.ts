import { createReadStream } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { type Descriptor, isIndex, isManifest } from '@gantry/model/descriptor'
import { Fault } from '@gantry/model/fault'
import type { Platform } from '@gantry/model/platform'
import type { Reference } from '@gantry/model/reference'
import { collect } from '../archive/collect.ts'
import type { Blobs } from '../blobs/blobs.ts'
import { held } from '../held.ts'
import type { Images } from '../images.ts'
import type { Holder, Leases } from '../leases.ts'
import { createJobs, together } from '../pull/jobs.ts'
import type { Progress } from '../pull/progress.ts'
import type { Pusher } from '../registry/push.ts'
import type { Source } from '../registry/registry.ts'

const SOURCE_LABEL = 'containerd.io/distribution.source.'
const CHUNK = 256 * 1024 // bytes read at once

export interface PushParts {
  readonly registry: { readonly push: Pusher }
  readonly blobs: Blobs
  readonly leases: Leases
  readonly images: Images
  /** Blobs sent at the same time. */
  readonly uploads: number
}

export interface PushRequest {
  /** The image to push. */
  readonly name: string
  readonly to: Source
  /** None means all. */
  readonly platforms: readonly Platform[]
}

export type Push = (
  request: PushRequest,
  holder: Holder,
  call: { progress: Progress; signal: AbortSignal },
) => Promise<void>

/**
 * Brings an image to a registry: first configs and layers side by side, then manifests, then the indexes that name them. So
 * whatever the registry has at any moment is complete.
 *
 * @throws {Fault} `not-found` for an image, or a part of it that is not here; else as the registry answers
 * @see behaviour facts, 15.2 and 17.5
 */
export function createPush({ registry, blobs, leases, images, uploads }: PushParts): Push {
  return async ({ name, to, platforms }, call, { progress, signal }) => {
    const { reference } = to
    await using holder = await held(call, () => leases.create(call.namespace, signal))
    const { namespace } = holder

    const target = await images.target(holder, name, signal)
    await leases.add(holder, { content: target.digest }, signal) // and all that it names
    const selection = { namespace, blobs, platforms, allPlatforms: platforms.length === 0, skipNonDistributable: false }
    const { parts, parents } = await collect(target, selection)
    const tagged = taggedOf(reference, target, parts)

    progress.say(`Pushing to ${reference.text}`)
    progress.say('pushing content', reference.text)
    for (const part of parts) progress.add(part, parents.get(part.digest) ?? [reference.text])
    const jobs = createJobs(uploads, signal)
    const one = (part: Descriptor) =>
      jobs.run((running) => send(part, { to, blobs, holder, registry, progress, tag: tagged(part), signal: running }))

    await together(parts.filter((part) => !isManifest(part) && !isIndex(part)).map(one))
    await together(parts.filter(isManifest).map(one))
    for (const index of parts.filter(isIndex)) await one(index)
    progress.say('pushed content', reference.text)
    progress.say(`Completed push to ${reference.text}`)
  }
}

interface Sending {
  readonly to: Source
  readonly blobs: Blobs
  readonly holder: Holder
  readonly registry: PushParts['registry']
  readonly progress: Progress
  readonly tag: string | undefined
  readonly signal: AbortSignal
}

async function send(descriptor: Descriptor, sending: Sending): Promise<void> {
  const { to, blobs, holder, registry, progress, tag, signal } = sending
  const { path } = blobs.locate(holder.namespace, descriptor.digest)
  progress.set(descriptor, 'uploading')
  if (isManifest(descriptor) || isIndex(descriptor)) {
    const pushed = await registry.push.manifest(to, { descriptor, bytes: await readFile(path), tag }, signal)
    progress.set(descriptor, pushed === 'already exists' ? pushed : 'complete')
    return
  }
  const { labels } = blobs.info(holder.namespace, descriptor.digest)
  const upload = {
    descriptor,
    body: () => createReadStream(path, { highWaterMark: CHUNK, signal }),
    mountFrom: sourcesOf(labels, to.reference),
    onProgress: (sent: bigint) => progress.at(descriptor, sent),
  }
  const pushed = await registry.push.blob(to, upload, signal)
  progress.set(descriptor, pushed === 'complete' ? 'complete' : 'already exists')
}

/** Which of the parts get the tag: the target, or the one that the reference names by its digest too. */
function taggedOf({ tag, digest, text }: Reference, target: { readonly digest: string }, parts: readonly Descriptor[]) {
  if (digest !== undefined && !parts.some((part) => part.digest === digest))
    throw new Fault('invalid-argument', `Cannot push to ${text}: the image has no part with that digest`)
  return (part: Descriptor): string | undefined => (part.digest === (digest ?? target.digest) ? tag : undefined)
}

/** Repositories of this registry where the blob came from, those that share most of the path first. */
function sourcesOf(labels: Readonly<Record<string, string>>, { host, path }: Reference): string[] {
  const known = (labels[`${SOURCE_LABEL}${host}`] ?? '').split(',').filter((one) => one !== '' && one !== path)
  return known.sort((a, b) => shared(b, path) - shared(a, path))
}

/** How many leading parts two paths share. */
function shared(a: string, b: string): number {
  const others = b.split('/')
  const parts = a.split('/')
  const differs = parts.findIndex((part, at) => part !== others[at])
  return differs < 0 ? parts.length : differs
}
