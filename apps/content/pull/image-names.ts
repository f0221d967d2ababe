import type { ImageReference, ImageStore } from '@gantry/api/containerd/types/transfer/imagestore_pb'
import type { Digest } from '@gantry/model/digest'
import { Fault } from '@gantry/model/fault'
import type { ImageRecord } from '../images.ts'

/**
 * The records that a transfer into the image store makes: the named one, and further ones that live as long as it does.
 *
 * @throws {Fault} `not-found` when there is no name at all, as containerd answers
 * @see behaviour facts, 15.2
 */
export function recordsFor(store: ImageStore, target: ImageRecord['target']): ImageRecord[] {
  const main = store.name === '' ? [] : [{ name: store.name, labels: store.labels, target }]
  const tied = { 'containerd.io/gc.bref.image': store.name, 'containerd.io/gc.expire': new Date(0).toISOString() }
  const further = store.extraReferences.flatMap((reference) => {
    const name = nameOf(reference, target.digest)
    const labels = store.name === '' ? store.labels : { ...store.labels, ...tied }
    return name === undefined || name === store.name ? [] : [{ name, labels, target }]
  })
  const records = [...main, ...further]
  if (records.length === 0) throw new Fault('not-found', 'Cannot store the image: it has no name')
  return records
}

/** A prefix needs something behind it; only the digest is at hand here. */
function nameOf({ name, isPrefix, addDigest, skipNamedDigest }: ImageReference, digest: Digest): string | undefined {
  if (addDigest && !(isPrefix && skipNamedDigest)) return `${name}@${digest}`
  return isPrefix || name === '' ? undefined : name
}
