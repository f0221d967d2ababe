import type { Digest } from '@gantry/model/digest'
import type { FaultCode } from '@gantry/model/fault'
import type { Packed } from '../diff/archive-writer.ts'
import type { Packing } from '../diff/pack.ts'
import type { Mount } from '../drivers/driver.ts'
import type { ActiveMount } from '../mounts/active.ts'
import type { Limits } from './limits.ts'
import type { Loose } from './loose.ts'
import type { Mark } from './mark.ts'
import type { Usage } from './tree.ts'

/** What a worker can be asked to do, each in a jail of its own but for mounts and syncs. */
export type Job =
  | ApplyJob
  | SettleJob
  | SyncJob
  | UsageJob
  | EmptyJob
  | CopyJob
  | LookJob
  | PackJob
  | MountJob
  | ActivateJob

/** Lays a layer out in `root`. */
export interface ApplyJob {
  readonly kind: 'apply'
  /** Absolute path of the blob. */
  readonly blob: string
  /** How much of it is there, when it is still being written. */
  readonly arriving?: Mark
  /** Follow the magic bytes of the blob; otherwise it is taken as a plain archive. */
  readonly detect: boolean
  readonly root: string
  /** Leave whiteouts as marks of the overlay file system; otherwise they delete. */
  readonly overlay: boolean
  /**
   * Absolute paths of what is below, nearest first; none when the layer is settled later, or stands alone. Marks in them are
   * not followed: a merged tree is best.
   */
  readonly lowers: readonly string[]
  readonly limits: Limits
  /** Write the file system of `root` to its disk before answering. */
  readonly sync: boolean
  /** Measure `root` when all is there. */
  readonly measure: boolean
}

/** Does in `root` what a layer that was laid out alone left to the layers below. */
export interface SettleJob {
  readonly kind: 'settle'
  readonly root: string
  /** Absolute paths of the layers below, nearest first. */
  readonly lowers: readonly string[]
  readonly loose: Loose
}

/** Writes the file system of `root` to its disk. */
export interface SyncJob {
  readonly kind: 'sync'
  readonly root: string
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

/** Copies a tree into an empty folder, and writes the file system to its disk; both are paths inside `root`. */
export interface CopyJob {
  readonly kind: 'copy'
  readonly root: string
  readonly from: string
  readonly to: string
}

/** Tells whether the upper folder of an overlay can be packed without those below. */
export interface LookJob {
  readonly kind: 'look'
  readonly root: string
  /** How the attributes of the overlay begin. */
  readonly marks: string
}

/** Packs what has changed as a plain archive. */
export interface PackJob extends Omit<Packing, 'output'> {
  readonly kind: 'pack'
  readonly root: string
  /** Path of the file or pipe to write to. */
  readonly output: string
}

/** Mounts for the time being; when it fails, some may be mounted. */
export interface MountJob {
  readonly kind: 'mount'
  readonly root: string
  /** One after the other, on top of each other or inside. */
  readonly mounts: readonly Mount[]
}

/** Mounts one of an activation, or makes its device. */
export interface ActivateJob {
  readonly kind: 'activate'
  /** Of the activation. */
  readonly folder: string
  readonly mount: Mount
  /** Those before it. */
  readonly active: readonly ActiveMount[]
}

export interface Applied {
  /** Of the plain bytes, those behind the end of the archive included. */
  readonly digest: Digest
  readonly size: bigint
  /** Zeros unless it was to be measured. */
  readonly usage: Usage
  /** What is left to settle with the layers below; nothing when those were given. */
  readonly loose: Loose
  readonly spent: Spent
}

/** Where the time of a thread went, in ms. */
export interface Spent {
  /** For plain bytes: for the network, the disk and the decoder. */
  readonly wait: number
  readonly hash: number
  /** Taking the archive apart and making files. */
  readonly write: number
  readonly measure: number
}

/** What a job answers, by its kind. */
export interface Results {
  readonly apply: Applied
  readonly settle: undefined
  readonly sync: undefined
  readonly usage: Usage
  readonly empty: undefined
  readonly copy: undefined
  readonly look: boolean
  readonly pack: Packed
  readonly mount: undefined
  /** The mount point. */
  readonly activate: string
}

/** To the worker. `cancelled` is one shared number that turns 1 when the caller gives up. */
export interface Order {
  readonly job: Job
  readonly cancelled: Int32Array
}

/** From the worker: its reply, or before it that it waits for bytes that are on their way, or does not any more. */
export type Message = Reply | { readonly waits: boolean }

/** After `reusable: false` it is to be ended: it may still be in its jail. */
export type Reply = { readonly reusable: boolean } & (
  | { readonly result: Results[keyof Results] }
  | { readonly fault: { readonly code: FaultCode; readonly message: string } }
  | { readonly crash: string }
)
