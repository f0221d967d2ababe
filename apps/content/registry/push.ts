import type { Descriptor } from '@gantry/model/descriptor'
import { Fault } from '@gantry/model/fault'
import type { Source } from './registry.ts'

/** What became of one object. */
export type Pushed = 'already exists' | 'mounted' | 'complete'

/** One blob to upload. */
export interface BlobUpload {
  readonly descriptor: Descriptor
  /** The bytes from the start; called again for every attempt, not at all when the registry has the blob. */
  readonly body: () => AsyncIterable<Uint8Array>
  /** Repositories of the same host that are said to have the blob (the `distribution.source` label). */
  readonly mountFrom: readonly string[]
  /** Told how many bytes of the blob were handed to the network so far; an attempt that starts anew starts from 0. */
  readonly onProgress: (sent: bigint) => void
}

/** One manifest or index to upload, after all that it names. */
export interface ManifestUpload {
  readonly descriptor: Descriptor
  readonly bytes: Uint8Array
  /** The tag it gets; by its digest when undefined. */
  readonly tag: string | undefined
}

/** Writes to registries. `to` names host, repository and how to get in; its tag and digest are not looked at. */
export interface Pusher {
  /**
   * Asks for the blob, mounts it from another repository, or uploads it in one piece.
   *
   * @throws {Fault} `unauthenticated`, `permission-denied`, `unavailable` naming host and cause, `failed-precondition`
   * @see behaviour facts, 17.5
   */
  blob(to: Source, upload: BlobUpload, signal: AbortSignal): Promise<Pushed>
  /** @throws {Fault} as `blob` */
  manifest(to: Source, upload: ManifestUpload, signal: AbortSignal): Promise<Pushed>
}

export function createPusher(): Pusher {
  const later = (): never => {
    throw new Fault('unimplemented', 'Cannot push: not implemented yet')
  }
  return { blob: async () => later(), manifest: async () => later() }
}
