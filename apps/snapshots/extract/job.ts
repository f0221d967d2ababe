import type { Digest } from '@gantry/model/digest'
import type { FaultCode } from '@gantry/model/fault'
import type { Limits } from './limits.ts'
import type { Usage } from './tree.ts'

/** What a worker can be asked to do, each in a jail of its own. */
export type Job = ApplyJob | UsageJob | EmptyJob

/** Lays a layer out in `root`. */
export interface ApplyJob {
  readonly kind: 'apply'
  /** Absolute path of the blob. */
  readonly blob: string
  /** Follow the magic bytes of the blob; otherwise it is taken as a plain archive. */
  readonly detect: boolean
  readonly root: string
  /** Leave whiteouts as marks of the overlay file system; otherwise they delete. */
  readonly overlay: boolean
  /** Absolute paths of the layers below, nearest first. */
  readonly lowers: readonly string[]
  readonly limits: Limits
  /** Write the file system of `root` to its disk before answering. */
  readonly sync: boolean
  /** Measure `root` when all is there. */
  readonly measure: boolean
}

/** Measures `root`. */
export interface UsageJob {
  readonly kind: 'usage'
  readonly root: string
}

/** Deletes all in `root`, which stays. */
export interface EmptyJob {
  readonly kind: 'empty'
  readonly root: string
}

export interface Applied {
  /** Of the plain bytes, those behind the end of the archive included. */
  readonly digest: Digest
  readonly size: bigint
  readonly usage: Usage | undefined
}

/** What a job answers, by its kind. */
export interface Results {
  readonly apply: Applied
  readonly usage: Usage
  readonly empty: undefined
}

/** To the worker. `cancelled` is one shared number that turns 1 when the caller gives up. */
export interface Order {
  readonly job: Job
  readonly cancelled: Int32Array
}

/** From the worker. After `reusable: false` it is to be ended: it may still be in its jail. */
export type Reply = { readonly reusable: boolean } & (
  | { readonly result: Results[keyof Results] }
  | { readonly fault: { readonly code: FaultCode; readonly message: string } }
  | { readonly crash: string }
)
