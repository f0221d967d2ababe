import type { UnpackRequest } from '@gantry/api/gantry/snapshots/v1/unpack_pb'
import type { Labels } from '@gantry/model/labels'

const PREFIX = 'containerd.io/snapshot/'
const LABEL_BYTES = 4096 // of one key and its value together, else the snapshot would be refused
/** Whose files they are is not for an image to say. */
const NOT_FROM_IMAGES: readonly string[] = [`${PREFIX}uidmapping`, `${PREFIX}gidmapping`]

/**
 * What a snapshotter that fetches layers by itself (stargz, nydus) wants to know of one: the annotations that are meant for
 * it, and where the layer comes from, in the words that such snapshotters read.
 *
 * @param at place of the layer in the request
 * @see behaviour facts, 6
 */
export function hintsOf({ reference, manifest, layers }: UnpackRequest, at: number): Labels {
  const digests = layers.slice(at).map(({ blob }) => blob?.digest ?? '')
  const annotations = Object.entries(layers[at]?.blob?.annotations ?? {})
  const meant = annotations.filter(([key]) => key.startsWith(PREFIX) && !NOT_FROM_IMAGES.includes(key))
  const layersKey = `${PREFIX}cri.image-layers`
  const origin = [
    [`${PREFIX}cri.image-ref`, reference],
    [`${PREFIX}cri.manifest-digest`, manifest],
    [`${PREFIX}cri.layer-digest`, digests[0] ?? ''],
    [layersKey, fitting(digests, LABEL_BYTES - layersKey.length)],
  ] as const
  return Object.fromEntries(
    [...meant, ...(reference === '' ? [] : origin)].filter((pair) => weigh(pair) <= LABEL_BYTES),
  )
}

/** The layer and those above it, as many as have room. */
function fitting(digests: readonly string[], bytes: number): string {
  let text = ''
  for (const digest of digests) {
    const longer = text === '' ? digest : `${text},${digest}`
    if (longer.length > bytes) break
    text = longer
  }
  return text
}

function weigh([key, value]: readonly [string, string]): number {
  return Buffer.byteLength(key) + Buffer.byteLength(value)
}
