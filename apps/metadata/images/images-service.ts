import { create } from '@bufbuild/protobuf'
import { ImageSchema, type Images as ImagesDesc } from '@gantry/api/containerd/services/images/v1/images_pb'
import type { Implementation } from '@gantry/rpc/service'
import type { Collector } from '../collect/schedule.ts'
import type { Images } from './images.ts'

/** containerd.services.images.v1.Images */
export function imagesService(
  images: Images,
  collector: Pick<Collector, 'runAfterDelete'>,
): Implementation<typeof ImagesDesc> {
  return {
    async get({ name }, { namespace }) {
      return { image: images.get(namespace, name) }
    },

    async list({ filters }, { namespace }) {
      return { images: images.list(namespace, filters) }
    },

    async create({ image = create(ImageSchema), sourceDateEpoch }, context) {
      return { image: await images.create(context, image, sourceDateEpoch) }
    },

    async update({ image = create(ImageSchema), updateMask, sourceDateEpoch }, { namespace }) {
      return { image: await images.update(namespace, image, updateMask?.paths ?? [], sourceDateEpoch) }
    },

    async delete({ name, target, sync }, context) {
      await images.delete(context, name, target?.digest ?? '')
      if (sync) await collector.runAfterDelete(context.signal)
      return {}
    },
  }
}
