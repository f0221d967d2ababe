import { type Mount, mount } from './mount.ts'
import { openPrivateMounts } from './mount-namespace.ts'
import { openMountTree } from './mount-tree.ts'

const POINT = '/sys' // every host has it, and nothing that a mount is made of lies there

/** A file system that is mounted nowhere: only who has the descriptor sees it. It goes with the last descriptor in it. */
export interface DetachedMount extends Disposable {
  /** Of its root, for `openIn`. */
  readonly fd: number
}

/**
 * Mounts for this process alone, so that nothing is left of it when the process is killed.
 *
 * @param mounts on top of each other
 * @throws {SystemError} `EPERM` without CAP_SYS_ADMIN, and from mount(2)
 */
export function openDetached(mounts: readonly Omit<Mount, 'target'>[]): DetachedMount {
  return openPrivateMounts(() => {
    for (const each of mounts) mount({ ...each, target: POINT })
    // a copy: what was mounted in a namespace that is gone has none, and openat2(2) then answers EAGAIN to each `..`
    return openMountTree(POINT, false)
  })
}
