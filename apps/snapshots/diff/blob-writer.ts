import { randomUUID } from 'node:crypto'
import { Content, WriteAction } from '@gantry/api/containerd/services/content/v1/content_pb'
import { type Digest, parseDigest } from '@gantry/model/digest'
import { ignoring, isFault } from '@gantry/model/fault'
import type { Namespace } from '@gantry/model/namespace'
import { type Channel, type Client, clientOf } from '@gantry/rpc/client'
import type { Leased } from '../leases.ts'
import type { Packed } from './archive-writer.ts'

const UNCOMPRESSED_LABEL = 'containerd.io/uncompressed'
const ABORT_MS = 5_000

/** A blob to be, whose bytes are being made. */
export interface NewBlob {
  readonly namespace: Namespace
  /** Name of the upload: what it holds already is given up. One of ours when it is empty. */
  readonly ref: string
  readonly labels: Readonly<Record<string, string>>
  readonly bytes: AsyncIterable<Buffer>
  /** Settles after the bytes; the blob is stored only when it resolves. */
  readonly plain: Promise<Packed>
  /** Say in a label what the plain bytes hash to. */
  readonly isCompressed: boolean
}

/** Stores a blob. That it is there already is well: it gets the label then. */
export type WriteBlob = (blob: NewBlob, call: Leased) => Promise<{ readonly digest: Digest; readonly size: bigint }>

export function createBlobWriter(channel: Channel): WriteBlob {
  const content = clientOf(Content, channel)
  return async (blob, { lease, signal }) => {
    const { namespace } = blob
    const ref = blob.ref === '' ? `gantry-diff-${randomUUID()}` : blob.ref
    try {
      return await upload(content, { ...blob, ref }, { namespace, lease, signal })
    } catch (error) {
      const options = { namespace, lease, signal: AbortSignal.timeout(ABORT_MS) }
      if (blob.ref === '') await ignoring('unavailable', ignoring('not-found', content.abort({ ref }, options)))
      throw error
    }
  }
}

interface Options extends Leased {
  readonly namespace: Namespace
}

async function upload(content: Client<typeof Content>, blob: NewBlob, options: Options) {
  const hashed = Promise.withResolvers<Digest>()
  hashed.promise.catch(() => {})
  let size = 0n
  let labels = blob.labels

  async function* requests() {
    for await (const data of blob.bytes) {
      yield { action: WriteAction.WRITE, ref: blob.ref, offset: size, data }
      size += BigInt(data.length)
    }
    const plain = await blob.plain
    if (blob.isCompressed) labels = { ...labels, [UNCOMPRESSED_LABEL]: plain.digest }
    yield { action: WriteAction.STAT, ref: blob.ref }
    const expected = await hashed.promise
    yield { action: WriteAction.COMMIT, ref: blob.ref, offset: size, total: size, expected, labels: { ...labels } }
  }

  try {
    for await (const { action, digest } of content.write(requests(), options))
      if (action === WriteAction.STAT) hashed.resolve(parseDigest(digest))
    hashed.reject(new Error('The upload ended before all of it was sent'))
  } catch (error) {
    hashed.reject(error)
    if (!isFault(error, 'already-exists')) throw error
    await addLabel(content, { digest: await hashed.promise, labels }, options)
  }
  return { digest: await hashed.promise, size }
}

/** Somebody else may have stored the blob, and not known what it is when it is not compressed. */
async function addLabel(
  content: Client<typeof Content>,
  { digest, labels }: { digest: Digest; labels: Readonly<Record<string, string>> },
  options: Options,
): Promise<void> {
  const uncompressed = labels[UNCOMPRESSED_LABEL]
  if (uncompressed === undefined) return
  const info = { digest, labels: { [UNCOMPRESSED_LABEL]: uncompressed } }
  await content.update({ info, updateMask: { paths: [`labels.${UNCOMPRESSED_LABEL}`] } }, options)
}
