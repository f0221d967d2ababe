import { type DetachedMount, openDetached } from '@gantry/linux/detached-mount'
import { isSystemError } from '@gantry/linux/system'
import { Fault } from '@gantry/model/fault'
import type { SnapshotMount } from './rootfs.ts'

/**
 * Mounts a snapshot where only this process sees it; nothing is left of that when the process is killed.
 *
 * @throws {Fault} `permission-denied` for who may not mount, `failed-precondition` when it cannot be mounted here, as on another
 *   host than the node
 */
export function openSnapshot(mounts: readonly SnapshotMount[]): DetachedMount {
  if (mounts.length === 0 || mounts.some(({ target }) => target))
    throw new Fault('failed-precondition', 'Cannot look into the snapshot: its mounts are none that we know')
  try {
    return openDetached(mounts)
  } catch (cause) {
    if (!isSystemError(cause)) throw cause
    const { message } = cause
    const isClosed = isSystemError(cause, 'EPERM', 'EACCES')
    const why = isClosed ? 'this takes root on the node' : message
    throw new Fault(isClosed ? 'permission-denied' : 'failed-precondition', `Cannot mount the snapshot: ${why}`, {
      cause,
    })
  }
}
