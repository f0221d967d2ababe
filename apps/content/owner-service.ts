import { type Blobs as BlobsService, VerifyResponse_Outcome as Outcome } from '@gantry/api/gantry/content/v1/blobs_pb'
import type { Owner } from '@gantry/api/gantry/owner/v1/owner_pb'
import { parseDigest } from '@gantry/model/digest'
import type { Implementation } from '@gantry/rpc/service'
import type { Blobs } from './blobs/blobs.ts'
import type { Checked, Scrub } from './verify/scrub.ts'

const OUTCOMES = {
  running: Outcome.UNSPECIFIED,
  sound: Outcome.SOUND,
  quarantined: Outcome.QUARANTINED,
  missing: Outcome.MISSING,
} as const satisfies Record<Checked['outcome'], Outcome>

/** gantry.content.v1.Blobs: hands a path to processes on this host, so that bytes need no socket, and looks after the bytes. */
export function blobsService(blobs: Blobs, scrub: Scrub): Implementation<typeof BlobsService> {
  return {
    async locate({ digest }, { namespace }) {
      return blobs.locate(namespace, parseDigest(digest))
    },
    async *verify({ digests, bytesPerSecond }, { signal }) {
      for await (const { outcome, namespaces, ...checked } of scrub.run(
        { digests: digests.map(parseDigest), bytesPerSecond },
        signal,
      ))
        yield { ...checked, namespaces: [...namespaces], outcome: OUTCOMES[outcome] }
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
