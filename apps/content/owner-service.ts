import type { Blobs as BlobsService } from '@gantry/api/gantry/content/v1/blobs_pb'
import type { Owner } from '@gantry/api/gantry/owner/v1/owner_pb'
import { parseDigest } from '@gantry/model/digest'
import type { Implementation } from '@gantry/rpc/service'
import type { Blobs } from './blobs/blobs.ts'

/** gantry.content.v1.Blobs: hands a path to processes on this host, so that bytes need no socket. */
export function blobsService(blobs: Blobs): Implementation<typeof BlobsService> {
  return {
    async locate({ digest }, { namespace }) {
      return blobs.locate(namespace, parseDigest(digest))
    },
  }
}

/** gantry.owner.v1.Owner: metadata asks before it deletes a namespace. */
export function ownerService(blobs: Blobs): Implementation<typeof Owner> {
  return {
    async holdings() {
      return { holdings: [...blobs.holdings()].map(([namespace, count]) => ({ namespace, blobs: count })) }
    },
  }
}
