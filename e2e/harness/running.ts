import type { Daemon } from './daemon.ts'

/** What the two kinds of daemon have in common; `startContainerd` and `startGantry` make one. */
export interface Running extends AsyncDisposable {
  readonly daemon: Daemon
  /** the public gRPC socket */
  readonly address: string
  /** one folder a snapshot of the overlayfs snapshotter */
  readonly snapshotFolders: string
  /** the pids that belong to the daemon itself right now */
  pids(): readonly number[]
}
