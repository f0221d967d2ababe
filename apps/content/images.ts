import { Images as ImagesService } from '@gantry/api/containerd/services/images/v1/images_pb'
import type { Descriptor } from '@gantry/model/descriptor'
import { parseDigest } from '@gantry/model/digest'
import { Fault, ignoring } from '@gantry/model/fault'
import type { Labels } from '@gantry/model/labels'
import { type Channel, clientOf } from '@gantry/rpc/client'
import type { Holder } from './leases.ts'

type Target = Pick<Descriptor, 'mediaType' | 'digest' | 'size' | 'annotations'>

/** An image record: a name for a manifest or index. */
export interface ImageRecord {
  readonly name: string
  readonly labels: Labels
  readonly target: Target
}

/** Image records are kept by `metadata`. */
export interface Images {
  /** What the name stands for. @throws {Fault} `not-found` */
  target(holder: Holder, name: string, signal: AbortSignal): Promise<Target>
  /** Makes the record, or makes it say this. */
  put(holder: Holder, image: ImageRecord, signal: AbortSignal): Promise<void>
}

export function createImages(metadata: Channel): Images {
  const client = clientOf(ImagesService, metadata)
  return {
    async target({ namespace }, name, signal) {
      const { image } = await client.get({ name }, { namespace, signal })
      if (!image?.target) throw new Fault('not-found', `image ${JSON.stringify(name)}: it names nothing`)
      return { ...image.target, digest: parseDigest(image.target.digest) }
    },
    async put({ namespace, lease }, { name, labels, target }, signal) {
      const { mediaType, digest, size, annotations = {} } = target
      const image = {
        name,
        labels: { ...labels },
        target: { mediaType, digest, size, annotations: { ...annotations } },
      }
      const create = () => client.create({ image }, { namespace, lease, signal })
      if (await ignoring('already-exists', create())) return
      if (await ignoring('not-found', client.update({ image }, { namespace, lease, signal }))) return
      await create() // it was deleted in between
    },
  }
}
