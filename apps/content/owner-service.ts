import { type Blobs as BlobsService, VerifyResponse_Outcome as Outcome } from '@gantry/api/gantry/content/v1/blobs_pb'
import type { Owner } from '@gantry/api/gantry/owner/v1/owner_pb'
import { type Digest, parseDigest } from '@gantry/model/digest'
import { Fault } from '@gantry/model/fault'
import type { Namespace } from '@gantry/model/namespace'
import type { Implementation } from '@gantry/rpc/service'
import type { Blobs } from './blobs/blobs.ts'
import type { Growing, Growth } from './blobs/growing.ts'
import type { Checked, Scrub } from './verify/scrub.ts'

const STEP = 2n * 1024n * 1024n // bytes that a follower is told of together: a message costs both sides a little

const OUTCOMES = {
  running: Outcome.UNSPECIFIED,
  sound: Outcome.SOUND,
  quarantined: Outcome.QUARANTINED,
  missing: Outcome.MISSING,
} as const satisfies Record<Checked['outcome'], Outcome>

/** gantry.content.v1.Blobs: hands a path to processes on this host, so that bytes need no socket, and looks after the bytes. */
export function blobsService(blobs: Blobs, growing: Growing, scrub: Scrub): Implementation<typeof BlobsService> {
  return {
    async locate({ digest }, { namespace }) {
      return blobs.locate(namespace, parseDigest(digest))
    },
    async *follow({ digest }, { namespace, signal }) {
      const wanted = { namespace, digest: parseDigest(digest) }
      let known = false
      for await (const { path, bytes } of growths(wanted, { blobs, growing }, signal)) {
        known = true
        if (path !== undefined) yield { path, bytes }
      }
      if (known && !blobs.has(namespace, wanted.digest))
        throw new Fault('aborted', `Cannot follow ${digest}: nobody brings it any more`)
      const { path, size: bytes } = blobs.locate(namespace, wanted.digest)
      yield { path, bytes, done: true }
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

/** How a blob grows, in steps, until it is there or nobody brings it. */
async function* growths(
  { namespace, digest }: { namespace: Namespace; digest: Digest },
  { blobs, growing }: { blobs: Blobs; growing: Growing },
  signal: AbortSignal,
): AsyncGenerator<Growth> {
  let told: Growth | undefined
  let seen: Growth | undefined
  while (!blobs.has(namespace, digest)) {
    seen = await growing.next(namespace, digest, seen, signal)
    if (!seen) return
    if (told && told.path === seen.path && seen.bytes - told.bytes < STEP) continue
    told = seen
    yield seen
  }
}

/** gantry.owner.v1.Owner: metadata asks before it lists or deletes namespaces. */
export function ownerService(blobs: Blobs): Implementation<typeof Owner> {
  return {
    async holdings() {
      return { holdings: Array.from(blobs.namespaces(), (namespace) => ({ namespace, hasBlobs: true })) }
    },
  }
}
