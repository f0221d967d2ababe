import { existsSync } from 'node:fs'
import { lchown, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { Blobs, type FollowResponse } from '@gantry/api/gantry/content/v1/blobs_pb'
import type { Digest } from '@gantry/model/digest'
import { Fault } from '@gantry/model/fault'
import type { Namespace } from '@gantry/model/namespace'
import { type Channel, clientOf } from '@gantry/rpc/client'
import { abortable } from '@gantry/service/abortable'
import { detectsCodec } from './diff/media-type.ts'
import type { Processors } from './diff/processors.ts'
import { type Mounting, mergeLayers } from './diff/target.ts'
import { type Laying, layOutEarly } from './early.ts'
import type { Applied } from './extract/job.ts'
import type { Limits } from './extract/limits.ts'
import type { Loose } from './extract/loose.ts'
import type { Pool } from './extract/pool.ts'

const SYNC_MS = 600_000 // one round: it cannot be stopped, and belongs to several callers

/** A layer's blob, and the folder it is laid out in. */
export interface LayingOut {
  readonly namespace: Namespace
  readonly blob: { readonly digest: Digest; readonly mediaType: string }
  /** What its plain bytes should be. */
  readonly diffId: Digest
  readonly root: string
  /** Is there nothing below it? Its whiteouts then leave no marks. */
  readonly isBase: boolean
}

/** Lays layers out, each apart from those below, and joins them to those later. */
export interface Layers {
  /**
   * Begins while the blob is still on its way into content, and answers when that is whole and proven.
   * @throws {Fault} as `Apply`; `aborted` when nobody brings the blob any more
   */
  layOut(what: LayingOut, signal: AbortSignal): Promise<Applied>
  /**
   * Once more, for a layer that links to files of the layers below.
   * @param lowers their folders, nearest first
   */
  layOutOn(lowers: readonly string[], what: LayingOut, signal: AbortSignal): Promise<Applied>
  /**
   * Its root takes after the one below, and so do the folders that only its paths imply. Answers whether that changed
   * anything.
   * @throws {Fault} `not-found` when one of those below was removed meanwhile
   * @param lowers folders of the layers below, nearest first; they are settled themselves
   */
  settle(root: string, left: { loose: Loose; lowers: readonly string[] }, signal: AbortSignal): Promise<boolean>
  /** To be called before the first byte goes to `root`: how to have on disk what is written there from now on. */
  startSyncing(root: string): Sync
}

/**
 * Resolves when all that was written before the call to trees of the same driver is on disk; those who ask while it is being
 * written share the next round. The kernel tells only once of bytes that it could not write, and not whose they were: so
 * after a round that failed it rejects for all who had started by then.
 */
export type Sync = (signal: AbortSignal) => Promise<void>

interface LayersParts extends Mounting {
  /** The process that keeps the blobs. */
  readonly content: Channel
  readonly pool: Pool
  /** For syncs: they wait for the disk, and would keep a thread from work. */
  readonly syncs: Pool
  readonly processors: Processors
  readonly limits: Limits
}

/** How a whole blob is laid out. */
interface Placing {
  readonly mediaType: string
  readonly root: string
  readonly overlay: boolean
  readonly lowers: readonly string[]
}

export function createLayers({ content, pool, syncs, processors, limits, ...mounting }: LayersParts): Layers {
  const blobs = clientOf(Blobs, content)
  const disks = new Map<string, () => Sync>()

  async function layOutProcessed(path: string, { mediaType, ...how }: Placing, signal: AbortSignal): Promise<Applied> {
    await using layer = await processors.run({ path, mediaType }, {}, signal)
    const flags = { detect: detectsCodec(layer.mediaType), limits, sync: false, measure: true }
    return await pool.run({ kind: 'apply', blob: layer.path, ...how, ...flags }, signal)
  }

  return {
    async layOut({ namespace, blob, diffId, root, isBase }, signal) {
      const follow = blobs.follow({ digest: blob.digest }, { signal, namespace })
      if (processors.accept(blob.mediaType))
        return await layOutProcessed(
          await whole(follow),
          { mediaType: blob.mediaType, root, overlay: !isBase, lowers: [] },
          signal,
        )
      const detect = detectsCodec(blob.mediaType)
      const job: Laying = { root, detect, overlay: !isBase, lowers: [], limits, sync: false, measure: true }
      const { path, early } = await layOutEarly(job, follow, { pool, signal })
      if (typeof early === 'object' && early.digest === diffId) return early
      if (early !== 'not tried') await pool.run({ kind: 'empty', root }, signal)
      return await pool.run({ kind: 'apply', ...job, blob: path }, signal)
    },

    async layOutOn(lowers, { namespace, blob, root }, signal) {
      const { path } = await blobs.locate({ digest: blob.digest }, { signal, namespace })
      await using below = await mergeLayers(lowers, mounting, signal)
      await pool.run({ kind: 'empty', root }, signal)
      return await layOutProcessed(
        path,
        { mediaType: blob.mediaType, root, overlay: true, lowers: [below.root] },
        signal,
      )
    },

    async settle(root, { loose, lowers }, signal) {
      const [nearest] = lowers
      if (nearest === undefined) return false
      try {
        const { uid, gid } = await stat(nearest)
        const isOfRoot = uid === 0 && gid === 0
        if (!isOfRoot) await lchown(root, uid, gid)
        if (loose.implied.length === 0) return !isOfRoot
        await pool.run({ kind: 'settle', root, lowers, loose }, signal)
        return true
      } catch (cause) {
        if (lowers.every((lower) => existsSync(lower))) throw cause
        throw new Fault('not-found', 'Cannot unpack a layer: one below it was removed meanwhile', { cause })
      }
    },

    startSyncing(root) {
      const all = dirname(dirname(root)) // those of another driver may lie on another disk
      const start = disks.get(all) ?? shared(() => syncs.run({ kind: 'sync', root: all }, AbortSignal.timeout(SYNC_MS)))
      disks.set(all, start)
      return start()
    },
  }
}

/** Waits until a blob is whole, and answers where it lies. */
async function whole(follow: AsyncIterable<FollowResponse>): Promise<string> {
  for await (const { path, done } of follow) if (done) return path
  throw new Error('content has stopped to tell how a blob grows')
}

/** One round at a time; a call gets a round that begins after it, if anybody still waits for that by then. */
function shared(work: () => Promise<void>): () => Sync {
  let last: Promise<void> = Promise.resolve()
  let next: { readonly round: Promise<void>; readonly waiting: AbortSignal[] } | undefined // has not begun
  let failures = 0
  let failure: unknown

  function join(signal: AbortSignal): Promise<void> {
    next ??= begin([])
    next.waiting.push(signal)
    return abortable(next.round, signal)
  }

  function begin(waiting: AbortSignal[]): NonNullable<typeof next> {
    const round = last.then(async () => {
      next = undefined
      if (waiting.every(({ aborted }) => aborted)) return
      try {
        await work()
      } catch (error) {
        failures++
        failure = error
        throw error
      }
    })
    last = round.catch(() => {})
    return { round, waiting }
  }

  return () => {
    const before = failures
    return async (signal) => {
      await join(signal)
      if (failures > before) throw failure
    }
  }
}
