import { close, closeSync, constants, openSync } from 'node:fs'
import { declare } from './system.ts'

const CLONE_NEWNS = 0x20000
const MS_PRIVATE = 1n << 18n
const MS_REC = 1n << 14n
const O_PATH = 0o10000000

/** A mount namespace that lives as long as somebody holds it or runs in it. */
export interface MountNamespace extends Disposable {
  /** Where others find it until it is disposed: for nsenter(1). */
  readonly path: string
}

/**
 * Makes a mount namespace that is as ours is now, but for `folder`, a mount point: there it has an empty folder in memory. All
 * other mounts stay in their peer groups, so what is mounted later spreads from and to it as from and to ours.
 *
 * The calling thread is in it for the moments between two system calls, and nothing else runs in that thread meanwhile. From the
 * first time on the thread has a root and a working folder of its own (chdir in another thread does not move it).
 * @throws {SystemError} `EPERM` without CAP_SYS_ADMIN, `EINVAL` when `folder` is no mount point
 */
export function openMountsCovering(folder: string): MountNamespace {
  using home = openHome()
  unshare(folder, CLONE_NEWNS)
  let fd: number
  try {
    mount(folder, '', folder, '', MS_PRIVATE, null) // else what comes on top would spread to ours
    mount(folder, 'none', folder, 'tmpfs', 0n, 'mode=700')
    fd = openSync('/proc/thread-self/ns/mnt', 'r')
  } finally {
    home.return()
  }
  // closing the last descriptor takes the mounts down, for which the kernel waits: not in this thread
  return { path: `/proc/${process.pid}/fd/${fd}`, [Symbol.dispose]: () => close(fd, () => undefined) }
}

/**
 * Does something in a mount namespace of its own, in which nothing that is mounted is seen elsewhere; what is left of it goes
 * when the last descriptor does. The calling thread is there meanwhile, as said above.
 * @throws {SystemError} `EPERM` without CAP_SYS_ADMIN
 */
export function openPrivateMounts<T>(work: () => T): T {
  using home = openHome()
  unshare('mounts', CLONE_NEWNS)
  try {
    mount('/', '', '/', '', MS_PRIVATE | MS_REC, null)
    return work()
  } finally {
    home.return()
  }
}

/** Where the calling thread is now. Entering a namespace moves it to its root; one that cannot come home must not go on. */
function openHome(): Disposable & { return(): void } {
  const namespace = openSync('/proc/thread-self/ns/mnt', 'r')
  const root = openSync('/', O_PATH | constants.O_DIRECTORY)
  const folder = openSync('.', O_PATH | constants.O_DIRECTORY)
  return {
    return() {
      try {
        setns('/', namespace, CLONE_NEWNS)
        fchdir('/', root)
        chroot('.', '.')
        fchdir('.', folder)
      } catch (error) {
        console.error(error)
        process.abort()
      }
    },
    [Symbol.dispose]() {
      for (const fd of [namespace, root, folder]) closeSync(fd)
    },
  }
}

const unshare = declare('int unshare(int flags)')
const setns = declare('int setns(int fd, int type)')
const mount = declare(
  'int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)',
)
const fchdir = declare('int fchdir(int fd)')
const chroot = declare('int chroot(const char *path)')
