import type { Any } from '@bufbuild/protobuf/wkt'
import { Blobs } from '@gantry/api/gantry/content/v1/blobs_pb'
import type { Digest } from '@gantry/model/digest'
import { Fault } from '@gantry/model/fault'
import type { Namespace } from '@gantry/model/namespace'
import { type Channel, clientOf } from '@gantry/rpc/client'
import type { Mount } from '../drivers/driver.ts'
import type { Applied } from '../extract/job.ts'
import type { Limits } from '../extract/limits.ts'
import type { Pool } from '../extract/pool.ts'
import { detectsCodec } from './media-type.ts'
import type { Processors } from './processors.ts'
import { openTarget, type TargetParts } from './target.ts'

/** A layer and where it goes. */
export interface Application {
  readonly namespace: Namespace
  readonly blob: { readonly digest: Digest; readonly mediaType: string }
  readonly mounts: readonly Mount[]
  /** Have all on disk before answering. */
  readonly sync: boolean
  /** Answer what the target takes on disk, too. */
  readonly measure: boolean
  /** For stream processors, by their ids. */
  readonly payloads?: Readonly<Record<string, Any>>
}

/**
 * Extracts a layer onto mounts.
 *
 * Stream processors come first, when the operator has some for the media type.
 *
 * @throws {Fault} `not-found` when the namespace has no such blob; `invalid-argument` for a bad archive; `resource-exhausted`
 *   beyond the limits or when the disk is full; `failed-precondition` when the target cannot take an entry
 */
export type Apply = (what: Application, signal: AbortSignal) => Promise<Applied>

export interface ApplyParts extends TargetParts {
  /** The process that keeps the blobs. */
  readonly content: Channel
  readonly pool: Pool
  readonly processors: Processors
  readonly limits: Limits
}

export function createApply({ content, pool, processors, limits, ...targets }: ApplyParts): Apply {
  const blobs = clientOf(Blobs, content)
  return async ({ namespace, blob, mounts, sync, measure, payloads = {} }, signal) => {
    const { path } = await blobs.locate({ digest: blob.digest }, { signal, namespace })
    await using layer = await processors.run({ path, mediaType: blob.mediaType }, payloads, signal)
    const detect = detectsCodec(layer.mediaType)
    await using target = await openTarget(mounts, targets, signal)
    const { root, overlay, lowers } = target
    const flags = { detect, root, overlay, lowers, limits, sync, measure }
    const applied = await pool.run({ kind: 'apply', blob: layer.path, ...flags }, signal)
    if (applied.loose.needsBelow)
      throw new Fault(
        'failed-precondition',
        `Cannot apply ${blob.digest} alone: it links to files of the layers below, and the mounts name none`,
      )
    return applied
  }
}
