import { closeSync, constants, openSync } from 'node:fs'
import { type Mount, mount } from './mount.ts'
import { openPrivateMounts } from './mount-namespace.ts'
import { O_PATH } from './open-in.ts'

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
  const fd = openPrivateMounts(() => {
    for (const each of mounts) mount({ ...each, target: POINT })
    return openSync(POINT, O_PATH | constants.O_DIRECTORY)
  })
  return { fd, [Symbol.dispose]: () => closeSync(fd) }
}
