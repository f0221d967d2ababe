import type { MessageInitShape } from '@bufbuild/protobuf'
import type { MountSchema } from '@gantry/api/containerd/types/mount_pb'
import type { Usage } from '../snapshot.ts'

/** An instruction to mount, as the wire has it. */
export type Mount = Omit<MessageInitShape<typeof MountSchema>, '$typeName' | '$unknown'> & {
  readonly type: string
  readonly source: string
  readonly target?: string
  readonly options: readonly string[] & string[]
}

/** What a driver has to know of a snapshot to mount it. */
export interface Stack {
  readonly kind: 'active' | 'view'
  readonly id: number
  /** Numbers of the snapshots below, nearest first. */
  readonly parents: readonly number[]
}

/**
 * Keeps the folders of snapshots, by number, and says how to mount them. It knows no names: those are records, written
 * after the folder is there and taken away before the folder goes.
 */
export interface Driver {
  /** As clients name it: `overlayfs`. */
  readonly name: string
  /** Absolute folder of all it keeps. */
  readonly root: string
  readonly capabilities: readonly string[]
  /** Makes the folder of a new snapshot. It is on disk when this resolves. */
  create(stack: Stack): Promise<void>
  mounts(stack: Stack): Mount[]
  /**
   * Makes the folder of a snapshot that will be committed as it is, apart from any parent, and answers where its files go.
   * Nothing of it need be on disk yet.
   */
  stage(id: number): string
  /** Absolute folder of the files that a snapshot itself adds. */
  layer(id: number): string
  /** Takes a folder away: out of sight when this resolves, off the disk later. A number without folder is well. */
  discard(id: number): Promise<void>
  /** What a snapshot itself takes, without those below. */
  usage(id: number, signal: AbortSignal): Promise<Usage>
  /** The folder that holds what a snapshot itself adds, when `path` is that of one. */
  owns(path: string): boolean
  /** At start: takes away every folder but those of `known`, and answers the highest number seen. */
  recover(known: ReadonlySet<number>): Promise<number>
}
