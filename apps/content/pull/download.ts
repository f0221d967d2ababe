import type { Descriptor } from '@gantry/model/descriptor'
import { Fault, isFault } from '@gantry/model/fault'
import { refKey } from '@gantry/model/refkey'
import { traced } from '@gantry/rpc/scope'
import type { Blobs } from '../blobs/blobs.ts'
import type { Grower } from '../blobs/growing.ts'
import type { Ingests } from '../blobs/ingests.ts'
import type { Writer } from '../blobs/writer.ts'
import type { Holder } from '../leases.ts'
import type { Ahead } from '../registry/parts.ts'
import type { Registry, Source } from '../registry/registry.ts'
import type { PullWatch } from '../watch.ts'
import type { Flights } from './flights.ts'
import { sourceLabel } from './labels.ts'
import type { Progress } from './progress.ts'

const SMALL = 256n * 1024n // bytes

export interface Download extends Omit<Holder, 'lease'> {
  /** Resolves when the lease of the pull holds the blob, be it here or not; nothing is committed before. */
  readonly held: Promise<void>
  readonly source: Source
  readonly blobs: Blobs
  readonly ingests: Ingests
  readonly registry: Registry
  readonly progress: Progress
  readonly flights: Flights
  /** Told how much of the blob is in its file. */
  readonly grower: Grower
  /** Connections of a large blob. */
  readonly sharing: Pick<Ahead, 'connections' | 'spare'>
  /** Called when nothing more has to come: what is left to do takes no connection. */
  readonly received: () => void
  /** Called with the file of a blob that is proven, and not on disk yet; a blob that is here is not told of. */
  readonly proven?: ((path: string) => Promise<void>) | undefined
  readonly watch?: Pick<PullWatch, 'blob'>
}

/**
 * Brings one blob into the namespace: network to file, hashed on the way, visible only once it is proven. What an
 * earlier attempt left is gone on with, and what another pull brings meanwhile is waited for. When it fails, or the signal is aborted, no ingest stays.
 *
 * @throws {Fault} `failed-precondition` when the registry sends other bytes than the descriptor says; else as `Registry.fetch`
 */
export async function download(descriptor: Descriptor, to: Download, signal: AbortSignal): Promise<void> {
  const about = { 'oci.digest': descriptor.digest, 'oci.size': Number(descriptor.size) }
  try {
    const result = await traced('fetch blob', about, () => bring(descriptor, to, signal))
    to.watch?.blob(result)
  } catch (error) {
    to.watch?.blob('failed')
    throw error
  }
}

async function bring(descriptor: Descriptor, to: Download, signal: AbortSignal): Promise<'fetched' | 'exists'> {
  const { namespace, blobs, progress, source } = to
  if (descriptor.size === 0n)
    throw new Fault('invalid-argument', `Cannot fetch ${descriptor.digest}: its descriptor says that it is empty`)
  using _ = blobs.has(namespace, descriptor.digest) ? undefined : await takeOff(descriptor, to, signal)
  const writer = await openWriter(descriptor, to, signal)
  if (!writer) {
    const { labels } = blobs.info(namespace, descriptor.digest)
    const next = sourceLabel(labels, source.reference)
    if (JSON.stringify(next) !== JSON.stringify(labels))
      await blobs.relabel(namespace, descriptor.digest, (now) => sourceLabel(now, source.reference))
    progress.set(descriptor, 'already exists')
    return 'exists'
  }
  try {
    const shared = writer.status().offset === descriptor.size
    await fill(writer, descriptor, { ...to, signal })
    progress.set(descriptor, shared ? 'already exists' : 'complete')
    return shared ? 'exists' : 'fetched'
  } catch (error) {
    to.grower.restart()
    await writer.discard()
    throw error
  }
}

/** The flight of the blob. Not while a client is at the upload: that may last, and other namespaces need not wait for it. */
async function takeOff(descriptor: Descriptor, to: Download, signal: AbortSignal): Promise<Disposable> {
  const { namespace, isolated, ingests, flights } = to
  const { digest } = descriptor
  const ref = refKey(descriptor)
  for (;;) {
    while (ingests.isBusy(namespace, ref)) await ingests.released(namespace, ref, signal)
    const flight = await flights.join(isolated ? `${namespace}/${digest}` : digest, signal) // what others bring is of no use to it
    if (!ingests.isBusy(namespace, ref)) return flight
    flight[Symbol.dispose]()
  }
}

/**
 * The writer of the blob's ingest, once nobody else is at it; undefined when the namespace has the blob. No lease holds the
 * ingest: after a crash it waits a day by itself for the next pull, as a lease would make it.
 */
async function openWriter(descriptor: Descriptor, to: Download, signal: AbortSignal): Promise<Writer | undefined> {
  const { namespace, isolated = false, blobs, ingests, held } = to
  const { digest: expected, size: total } = descriptor
  const ref = refKey(descriptor)
  for (;;) {
    if (blobs.has(namespace, expected)) {
      await held
      if (blobs.has(namespace, expected)) return undefined // else it was collected just before
    }
    while (ingests.isBusy(namespace, ref)) await ingests.released(namespace, ref, signal)
    try {
      return await ingests.open({ namespace, lease: undefined, isolated, ref, expected, total, ahead: true }, signal)
    } catch (error) {
      if (!isFault(error, 'already-exists')) throw error
    }
  }
}

interface Call extends Download {
  readonly ahead?: Ahead
  readonly signal: AbortSignal
}

/**
 * Completes the ingest. What an earlier attempt left, or parts that the registry does not know how to send, may be what is
 * wrong, so then it is tried once more from nothing, in one piece.
 */
async function fill(writer: Writer, descriptor: Descriptor, to: Call): Promise<void> {
  const left = writer.status().offset
  if (left > descriptor.size) await writer.truncate()
  let isWhole = left === 0n
  const begin = async (): Promise<void> => {
    isWhole = false
    await writer.ahead()
  }
  try {
    await complete(writer, descriptor, { ...to, ahead: { ...to.sharing, begin } })
  } catch (error) {
    if (isWhole || !isFault(error, 'failed-precondition')) throw error
    to.grower.restart()
    await writer.truncate()
    await complete(writer, descriptor, to)
  }
}

async function complete(writer: Writer, descriptor: Descriptor, to: Call): Promise<void> {
  await append(writer, descriptor, to)
  to.received()
  writer.flush() // while the last bytes are hashed
  await commit(writer, descriptor, to)
}

async function commit(writer: Writer, { digest: expected, size: total }: Descriptor, to: Call): Promise<void> {
  const { reference } = to.source
  const actual = await writer.digest()
  if (expected.startsWith('sha256:') && actual !== expected)
    throw new Fault(
      'failed-precondition',
      `Cannot pull ${reference.text}: ${reference.host} sends ${actual} for ${expected}`,
    )
  await to.proven?.(writer.path())
  await to.held
  try {
    await writer.commit({ total, expected, labels: sourceLabel({}, reference) }, to.signal)
  } catch (error) {
    if (!isFault(error, 'already-exists')) throw error // another upload was faster
  }
}

/** What is small is brought here; what is large is left to a thread of its own. */
async function append(writer: Writer, descriptor: Descriptor, to: Call): Promise<void> {
  const { source, registry, signal } = to
  const { offset: from } = writer.status()
  to.grower.grown(writer.path(), from)
  if (from === descriptor.size) return
  to.progress.set(descriptor, 'downloading')
  const tell = (): void => {
    const { offset } = writer.status()
    to.progress.at(descriptor, offset)
    to.grower.grown(writer.path(), offset)
  }
  const courier = descriptor.size - from > SMALL ? writer.courier() : undefined
  if (courier)
    for await (const { length } of registry.save(source, descriptor, { from, courier, ahead: to.ahead }, signal)) {
      await writer.saved(length)
      tell()
    }
  else
    for await (const piece of registry.fetch(source, descriptor, from, signal)) {
      await writer.append(piece) // the next one arrives meanwhile
      tell()
    }
}
