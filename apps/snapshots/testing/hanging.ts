import { spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { mount, unmount } from '@gantry/linux/mount'

/** Where the kernel lets programs serve file systems. */
export const FUSE = '/dev/fuse'

/**
 * Mounts a file system that nobody serves: whoever looks for a file in it waits, as with a server that does not answer, for a
 * minute or until this is disposed of, and then fails. The descriptor is another process's, so that it ends also when this one
 * waits.
 */
export function mountHanging(target: string): Disposable {
  const fd = openSync(FUSE, 'r+')
  const options = [`fd=${fd}`, 'rootmode=40000', 'user_id=0', 'group_id=0']
  mount({ type: 'fuse', source: 'hangs', target, options })
  const holder = spawn('sleep', ['60'], { stdio: ['ignore', 'ignore', 'ignore', fd] })
  closeSync(fd)
  return {
    [Symbol.dispose]() {
      holder.kill('SIGKILL')
      unmount(target, { detach: true })
    },
  }
}
