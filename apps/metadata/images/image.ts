/**
 * The rules of an image: a name for a descriptor. Nothing says that the content it points at is here.
 */
import { create } from '@bufbuild/protobuf'
import type { Timestamp } from '@bufbuild/protobuf/wkt'
import type { Image } from '@gantry/api/containerd/services/images/v1/images_pb'
import { type Descriptor, DescriptorSchema } from '@gantry/api/containerd/types/descriptor_pb'
import { parseDigest } from '@gantry/model/digest'
import { Fault } from '@gantry/model/fault'
import { type Adaptor, fieldsOf } from '@gantry/model/filter'
import { checkLabels, withoutEmpty } from '@gantry/model/labels'
import { type MaskPath, parseMask, updateMap } from '@gantry/model/mask'

/** With this label an image stops being a root of collection after the time it holds. */
export const EXPIRE_LABEL = 'containerd.io/gc.expire'

const ACCEPTED = { plain: ['labels', 'target', 'annotations'], maps: ['labels', 'annotations'] }

/**
 * The image that is stored for what a caller sent; times are ours.
 *
 * @throws {Fault} `invalid-argument` without a name or a whole target, or with labels that are too large
 */
export function newImage(wanted: Image, now: Timestamp): Image {
  return stored({ ...wanted, createdAt: now, updatedAt: now })
}

/**
 * The image after an update of the fields in `mask`; with no mask all is replaced but the time of creation.
 *
 * @throws {Fault} `invalid-argument` for an unknown path, or when the result breaks a rule
 */
export function updatedImage(current: Image, next: Image, mask: readonly string[], now: Timestamp): Image {
  const changed =
    mask.length === 0 ? next : parseMask(mask, ACCEPTED).reduce((image, path) => withPath(image, next, path), current)
  const { createdAt: _, ...rest } = changed
  return stored({ ...rest, ...(current.createdAt && { createdAt: current.createdAt }), updatedAt: now })
}

/** What filters of images may ask about. */
export function imageFields({ name, labels, target }: Image): Adaptor {
  const { digest = '', mediaType = '', annotations = {} } = target ?? {}
  return fieldsOf({ name, target: { digest, mediatype: mediaType }, labels, annotations })
}

function withPath(image: Image, next: Image, path: MaskPath): Image {
  switch (path.field) {
    case 'labels':
      return { ...image, labels: updateMap(image.labels, next.labels, path) }
    case 'annotations': {
      const target = targetOf(image)
      const annotations = updateMap(target.annotations, next.target?.annotations ?? {}, path)
      return { ...image, target: { ...target, annotations } }
    }
    default:
      return { ...image, target: targetOf(next) }
  }
}

/** Checks the record; of the target only media type, digest, size and annotations are kept. */
function stored(image: Image): Image {
  if (image.name === '') throw new Fault('invalid-argument', 'Cannot store an image: its name is empty')
  checkLabels(image.labels)
  const { mediaType, digest, size, annotations } = targetOf(image)
  parseDigest(digest)
  if (size <= 0n) throw refuse(image, `the size of its target is ${size}`)
  if (mediaType === '') throw refuse(image, 'its target has no media type')
  const target = create(DescriptorSchema, { mediaType, digest, size, annotations })
  return { ...image, labels: withoutEmpty(image.labels), target }
}

function targetOf({ target }: Image): Descriptor {
  return target ?? create(DescriptorSchema)
}

function refuse({ name }: Image, why: string): Fault {
  return new Fault('invalid-argument', `Cannot store image ${JSON.stringify(name)}: ${why}`)
}
