import { closeSync, constants } from 'node:fs'
import { mount } from '@gantry/linux/mount'
import { O_PATH, openIn } from '@gantry/linux/open-in'
import type { Mount } from '../drivers/driver.ts'

/**
 * Mounts on `root`; what has a target of its own inside what is mounted there, wherever links in it lead. It takes as long as
 * a disk or a network does, so it is for the threads that mount.
 * @throws {SystemError}
 * @throws {Fault} `invalid-argument`
 */
export function mountIn(root: string, { type, source, target, options }: Mount): void {
  const what = { type, source, options }
  if (!target) {
    mount({ ...what, target: root })
    return
  }
  const fd = openIn(root, target, O_PATH | constants.O_DIRECTORY)
  try {
    mount({ ...what, target: `/proc/self/fd/${fd}` })
  } finally {
    closeSync(fd)
  }
}
