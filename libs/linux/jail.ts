import { closeSync, constants, openSync } from 'node:fs'
import { isMainThread } from 'node:worker_threads'
import { declare } from './system.ts'

const CLONE_FS = 0x200
const O_PATH = 0o10000000

const unshare = declare('int unshare(int flags)')
const chroot = declare('int chroot(const char *path)')
const chdir = declare('int chdir(const char *path)')
const fchdir = declare('int fchdir(int fd)')
const umask = declare('unsigned int umask(unsigned int mask)')

/**
 * Makes `dir` the root of the file system for the synchronous calls of this worker thread, and clears its umask. Links that
 * lead to `/` or `..` stay inside. The thread takes root, working folder and umask of its own first, so no other thread sees it.
 *
 * Inside, load no module and start no asynchronous file call: those run in pool threads, which are not in the jail.
 * @returns disposing it leads out again; when that fails, end the worker
 * @throws {SystemError} `ENOENT`, `ENOTDIR`, `EPERM` (it needs CAP_SYS_CHROOT)
 */
export function enterJail(dir: string): Disposable {
  if (isMainThread) throw new Error('A jail is for worker threads: the main thread would take the pool threads with it')
  const outside = openSync('/', O_PATH | constants.O_DIRECTORY)
  try {
    unshare(dir, CLONE_FS)
    chroot(dir, dir)
    chdir('/', '/')
    umask('', 0)
  } catch (error) {
    closeSync(outside)
    throw error
  }
  return {
    [Symbol.dispose]() {
      fchdir('/', outside)
      chroot('.', '.')
      closeSync(outside)
    },
  }
}
