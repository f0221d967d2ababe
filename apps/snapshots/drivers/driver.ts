import type { MessageInitShape } from '@bufbuild/protobuf'
import type { MountSchema } from '@gantry/api/containerd/types/mount_pb'
import type { Labels } from '@gantry/model/labels'
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
  /** Those that are meant for drivers (`driverLabels`). */
  readonly labels: Labels
}

/** What a snapshot is called by those who asked for it; only for a driver that passes it on. */
export interface Title {
  readonly namespace: string
  readonly key: string
}

/** What became of a snapshot that was to be made. */
export type Creation =
  | { readonly made: readonly Mount[] }
  /** The driver has what the stack's target label asks for: the number stands for a committed snapshot. */
  | { readonly found: true }

/** A snapshot is to be committed. */
export interface Commitment {
  readonly namespace: string
  readonly name: string
  /** The number of the parent that it gets only now. */
  readonly parent: number | undefined
  readonly labels: Labels
}

/**
 * Keeps the trees of snapshots, by number, and says how to mount them. It knows no names: those are records, written after
 * the tree is there and taken away before the tree goes. Every driver passes `driver.contract.ts`.
 */
export interface Driver {
  /** As clients name it: `overlayfs`. */
  readonly name: string
  /** What Introspection tells of it: where it keeps all, or where it is. */
  readonly exports: Readonly<Record<string, string>>
  readonly capabilities: readonly string[]
  /** Makes the tree of a new snapshot. It is on disk when this resolves. */
  create(stack: Stack, title: Title, signal: AbortSignal): Promise<Creation>
  mounts(stack: Stack, signal: AbortSignal): Promise<Mount[]>
  /** From now on nothing changes the tree. @throws {Fault} `unimplemented` for a parent where it cannot rebase */
  commit(id: number, commitment: Commitment, signal: AbortSignal): Promise<void>
  /** The labels for drivers have changed. */
  relabel(id: number, labels: Labels, signal: AbortSignal): Promise<void>
  /** What a snapshot itself takes, without those below. */
  usage(id: number, signal: AbortSignal): Promise<Usage>
  /** Takes a tree away: out of sight when this resolves, off the disk later. A number without tree is well. */
  discard(id: number): Promise<void>
  /** Resolves when all that was discarded before is off the disk, or could not be deleted. */
  cleanup(signal: AbortSignal): Promise<void>
  /** Is this the folder of a snapshot of this driver, which nothing else has mounted over? */
  owns(path: string): boolean
  /** At start: takes away every tree but those of `known`, and answers the highest number seen. */
  recover(known: ReadonlySet<number>): Promise<number>
  /** Set when it keeps each tree in a folder of its own. */
  readonly trees?: Trees
  /** Set when layers can be laid out apart from those below. */
  readonly staging?: Staging
}

/** The folders of a driver as they lie on the disk, whatever the records say. */
export interface Trees {
  /** Absolute. */
  readonly root: string
  /** Everything that lies there, but for what is on its way off the disk. */
  names(): Promise<{ readonly name: string; readonly id: number | undefined }[]>
  has(id: number): boolean
  /** Takes it away, whatever it is: out of sight when this resolves, off the disk later. Answers whether it was there. */
  drop(name: string): Promise<boolean>
}

export interface Staging {
  /**
   * Makes the folder of a snapshot that will be committed as it is, apart from any parent, and answers where its files go.
   * Nothing of it need be on disk yet.
   */
  stage(id: number): Promise<string>
  /** Absolute folder of the files that a snapshot itself adds. */
  layer(id: number): string
}
