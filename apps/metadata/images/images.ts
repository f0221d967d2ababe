/** Use cases of images, one transaction each; the event goes with it. */
import type { Timestamp } from '@bufbuild/protobuf/wkt'
import { ImageCreateSchema, ImageDeleteSchema, ImageUpdateSchema } from '@gantry/api/containerd/events/image_pb'
import type { Image } from '@gantry/api/containerd/services/images/v1/images_pb'
import { Fault } from '@gantry/model/fault'
import { parseFilters } from '@gantry/model/filter'
import type { Namespace } from '@gantry/model/namespace'
import type { Changes } from '@gantry/service/changes'
import { attach, detach } from '../leases/attach.ts'
import { claimNamespace, type Rows, valuesUnder } from '../rows.ts'
import { EXPIRE_LABEL, imageFields, newImage, updatedImage } from './image.ts'

export type Images = ReturnType<typeof createImages>

/** Who asks, and under which lease. */
export interface Caller {
  readonly namespace: Namespace
  readonly lease: string | undefined
}

/** @param parts.now the time a record is stamped with */
export function createImages({
  rows,
  changes,
  now,
}: {
  rows: Rows
  changes: Pick<Changes, 'write'>
  now: () => Timestamp
}) {
  return {
    /** @throws {Fault} `not-found` */
    get(namespace: Namespace, name: string): Image {
      return rows.images.get([namespace, name]) ?? missing(name)
    },

    /** In order of names. @throws {Fault} `invalid-argument` for a filter that does not parse */
    list(namespace: Namespace, filters: readonly string[]): Image[] {
      const matches = parseFilters(filters)
      return valuesUnder(rows.images, [namespace], (image) => matches(imageFields(image)))
    },

    /**
     * Stores a new image. One that will expire belongs to the lease of the call, also when it existed before.
     *
     * @param epoch time to stamp it with instead of now, for reproducible records
     * @throws {Fault} `already-exists`; `not-found` when the lease is; `invalid-argument`
     */
    async create({ namespace, lease }: Caller, wanted: Image, epoch: Timestamp | undefined): Promise<Image> {
      const image = newImage(wanted, epoch ?? now())
      const { name, labels } = image
      const created = await changes.write((emit) => {
        if (lease !== undefined && EXPIRE_LABEL in labels) attach(rows, namespace, lease, { type: 'images', id: name })
        if (rows.images.has([namespace, name])) return false
        claimNamespace(rows, namespace)
        rows.images.put([namespace, name], image)
        emit(namespace, '/images/create', ImageCreateSchema, { name, labels })
        return true
      })
      if (!created) throw new Fault('already-exists', `image ${JSON.stringify(name)}: already exists`)
      return image
    },

    /** @throws {Fault} `not-found`, `invalid-argument` */
    async update(
      namespace: Namespace,
      next: Image,
      mask: readonly string[],
      epoch: Timestamp | undefined,
    ): Promise<Image> {
      const { name } = next
      if (name === '') throw new Fault('invalid-argument', 'Cannot update an image: its name is empty')
      return changes.write((emit) => {
        const current = rows.images.get([namespace, name]) ?? missing(name)
        const image = updatedImage(current, next, mask, epoch ?? now())
        rows.images.put([namespace, name], image)
        emit(namespace, '/images/update', ImageUpdateSchema, { name, labels: image.labels })
        return image
      })
    },

    /**
     * Removes the name, and its entry in the lease of the call.
     *
     * @param digest when not empty, the image goes only if it still points there
     * @throws {Fault} `not-found`, also when it points elsewhere
     */
    async delete({ namespace, lease }: Caller, name: string, digest: string): Promise<void> {
      return changes.write((emit) => {
        const image = rows.images.get([namespace, name]) ?? missing(name)
        if (digest !== '' && image.target?.digest !== digest)
          throw new Fault('not-found', `Cannot delete image ${JSON.stringify(name)}: it does not point at ${digest}`)
        if (lease !== undefined) detach(rows, namespace, lease, { type: 'images', id: name })
        rows.images.remove([namespace, name])
        emit(namespace, '/images/delete', ImageDeleteSchema, { name })
      })
    },
  }
}

function missing(name: string): never {
  throw new Fault('not-found', `image ${JSON.stringify(name)}: not found`)
}
