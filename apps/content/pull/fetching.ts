import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import type { Descriptor } from '@gantry/model/descriptor'
import { Fault, isFault } from '@gantry/model/fault'
import { MAX_MANIFEST_BYTES } from '@gantry/model/manifest'
import type { Growing } from '../blobs/growing.ts'
import type { Holder, Leases } from '../leases.ts'
import { type Download, download } from './download.ts'
import type { Jobs } from './jobs.ts'

const MAX_OBJECTS = 4096 // manifests, configs and layers of one pull together
const MAX_DOCUMENT_BYTES = 32 * 1024 * 1024 // of manifests and indexes of one pull: reading more takes minutes

/** The blobs of one pull. */
export interface Fetching {
  /** Has the lease hold these blobs, in one go; each waits for it only before it is committed. */
  hold(descriptors: readonly Descriptor[]): void
  /** One blob, below `parents` in what the client is told; the same one named twice is fetched once. */
  fetch(descriptor: Descriptor, parents: readonly string[]): Promise<void>
  /**
   * Fetches a manifest or index and reads it strictly, as soon as its bytes are proven: what it names can be asked for while
   * it is `stored`.
   */
  document<T>(descriptor: Descriptor, parents: readonly string[], parse: Parse<T>): Promise<Document<T>>
  refuse(why: string): Fault
  /** Waits for all that was begun, also when it fails. */
  ended(): Promise<void>
}

export type Parse<T> = (bytes: Uint8Array, mediaType: string) => T

export interface Document<T> {
  readonly content: T
  /** Resolves when the namespace has the blob. */
  readonly stored: Promise<void>
}

interface FetchingParts
  extends Holder,
    Omit<Download, 'namespace' | 'grower' | 'received' | 'held' | 'proven' | 'sharing'> {
  /** Connections for one large blob, at most. */
  readonly connections: number
  readonly growing: Growing
  readonly leases: Leases
  readonly jobs: Jobs
}

export function createFetching(parts: FetchingParts): Fetching {
  const { namespace, blobs, growing, leases, progress, jobs, source, connections } = parts
  const sharing = { connections, spare: jobs.spare }
  const fetched = new Map<string, Promise<void>>()
  const holds = new Map<string, Promise<void>>()
  let objects = 0
  let documentBytes = 0n

  function hold(descriptors: readonly Descriptor[]): void {
    const digests = descriptors.map(({ digest }) => digest).filter((digest) => !holds.has(digest))
    const held = leases.hold(parts, digests, jobs.signal)
    held.catch(() => undefined) // those who wait for it hear of it
    for (const digest of digests) holds.set(digest, held)
  }

  async function fetch(descriptor: Descriptor, parents: readonly string[], proven?: Download['proven']): Promise<void> {
    if (++objects > MAX_OBJECTS) throw refuse(`it has more than ${MAX_OBJECTS} parts`)
    progress.add(descriptor, parents)
    const running = fetched.get(descriptor.digest) ?? bring(descriptor, proven)
    fetched.set(descriptor.digest, running)
    await running
  }

  async function bring(descriptor: Descriptor, proven: Download['proven']): Promise<void> {
    using grower = growing.expect(namespace, descriptor.digest)
    if (!holds.has(descriptor.digest)) hold([descriptor])
    const held = holds.get(descriptor.digest) ?? Promise.resolve()
    await jobs.run((signal, received) =>
      download(descriptor, { ...parts, sharing, grower, received, held, proven }, signal),
    )
  }

  /** One that was here before: whoever names it may lie about its size. */
  async function readStored(descriptor: Descriptor): Promise<Uint8Array> {
    const { path, size } = blobs.locate(namespace, descriptor.digest)
    if (size === descriptor.size) return await readFile(path)
    throw refuse(`${descriptor.digest} has ${size} bytes, and is said to have ${descriptor.size}`)
  }

  function refuse(why: string): Fault {
    return new Fault('failed-precondition', `Cannot pull ${source.reference.text}: ${why}`)
  }

  return {
    hold,
    fetch,
    async document(descriptor, parents, parse) {
      if (descriptor.size > BigInt(MAX_MANIFEST_BYTES))
        throw refuse(`${descriptor.digest} is larger than a manifest may be`)
      documentBytes += descriptor.size
      if (documentBytes > MAX_DOCUMENT_BYTES) throw refuse('its manifests and indexes are too large together')
      const early = Promise.withResolvers<Uint8Array>()
      const stored = fetch(descriptor, parents, async (path) => early.resolve(readFileSync(path))) // in memory still
      const late = stored.then(() => readStored(descriptor))
      late.catch(() => undefined) // whoever awaits `stored` hears of it
      const bytes = await Promise.race([early.promise, late])
      jobs.signal.throwIfAborted()
      try {
        return { content: parse(bytes, descriptor.mediaType), stored }
      } catch (error) {
        if (!isFault(error, 'invalid-argument')) throw error
        throw refuse(`${descriptor.digest}: ${error.message}`)
      }
    },
    refuse,
    async ended() {
      await Promise.allSettled(fetched.values())
    },
  }
}
