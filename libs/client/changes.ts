import { randomUUID } from 'node:crypto'
import { chainIds } from '@gantry/model/chain-id'
import type { Descriptor } from '@gantry/model/descriptor'
import { type Digest, parseDigest } from '@gantry/model/digest'
import { Fault, ignoring } from '@gantry/model/fault'
import { fromWire } from './content.ts'
import type { SnapshotMount } from './rootfs.ts'
import type { Wire } from './wire.ts'

const UNCOMPRESSED_LABEL = 'containerd.io/uncompressed'
const CLEANUP_MS = 10_000 // for undoing, whatever became of the call

/** A snapshot as records name it. */
interface Place {
  readonly snapshotter: string
  readonly key: string
}

/** What somebody wrote into a snapshot, as a layer: a blob that only the lease keeps. */
export interface PackedChanges {
  readonly layer: Descriptor
  readonly diffId: Digest
}

/** A snapshot beside what it was made of, which is there to be read until this is disposed. */
export interface OpenChanges extends AsyncDisposable {
  /** Name of the snapshot below, `''` when there is none. */
  readonly parent: string
  /** The mounts of that one, none when there is none. */
  readonly below: readonly SnapshotMount[]
  readonly mounts: readonly SnapshotMount[]
  pack(mediaType: string): Promise<PackedChanges>
}

/** @param lease keeps what is made meanwhile, should this process die @throws {Fault} `not-found` */
export async function openChanges(wire: Wire, place: Place, lease: string, signal: AbortSignal): Promise<OpenChanges> {
  const { snapshots, diff, content } = wire.services
  const leased = wire.call(signal, { lease })
  const { info } = await snapshots.stat(place, leased)
  const { mounts } = await snapshots.mounts(place, leased)
  const parent = info?.parent ?? ''
  const { snapshotter } = place
  const key = `gantry-view-${randomUUID()}`
  const below = parent === '' ? [] : (await snapshots.view({ snapshotter, key, parent }, leased)).mounts
  return {
    ...{ parent, below, mounts },
    async pack(mediaType) {
      const reply = await diff.diff({ left: below, right: mounts, mediaType }, leased)
      const layer = fromWire(reply.diff)
      const { info } = await content.info({ digest: layer.digest }, leased)
      return { layer, diffId: parseDigest(info?.labels[UNCOMPRESSED_LABEL] ?? layer.digest) }
    },
    async [Symbol.asyncDispose]() {
      if (parent !== '') await removeQuietly(wire, { snapshotter, key })
    },
  }
}

/**
 * Makes the committed snapshot of a layer on top of others, unless it is there.
 *
 * @param stack the diff IDs of all layers, the new one last
 * @returns its name
 * @throws {Fault} `not-found` without the snapshot below
 */
export async function unpackLayer(
  wire: Wire,
  what: { snapshotter: string; stack: readonly Digest[]; layer: Descriptor; lease: string },
  signal: AbortSignal,
): Promise<string> {
  const { snapshots, diff } = wire.services
  const { snapshotter, stack, lease } = what
  const [name = '', parent = ''] = chainIds(stack).toReversed()
  const leased = wire.call(signal, { lease })
  const key = `extract-${randomUUID()} ${name}`
  const { mounts } = await snapshots.prepare({ snapshotter, key, parent }, leased)
  try {
    const { applied } = await diff.apply({ diff: toWire(what.layer), mounts }, leased)
    if (applied?.digest !== stack.at(-1))
      throw new Fault('data-loss', `Cannot unpack ${what.layer.digest}: its files hash to ${applied?.digest}`)
    await ignoring('already-exists', snapshots.commit({ snapshotter, name, key }, leased))
  } finally {
    await removeQuietly(wire, { snapshotter, key }) // nothing is there when it was committed
  }
  return name
}

export function toWire({ mediaType, digest, size }: Descriptor) {
  return { mediaType, digest, size }
}

/** What is left goes with the lease. */
async function removeQuietly(wire: Wire, place: Place): Promise<void> {
  await wire.services.snapshots.remove(place, wire.call(AbortSignal.timeout(CLEANUP_MS))).catch(() => undefined)
}
