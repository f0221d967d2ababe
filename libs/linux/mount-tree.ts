import { declare } from './system.ts'

// the same numbers on every architecture
const SYS_OPEN_TREE = 428
const SYS_MOVE_MOUNT = 429
const SYS_MOUNT_SETATTR = 442
const AT_FDCWD = -100
const AT_EMPTY_PATH = 0x1000
const AT_RECURSIVE = 0x8000
const OPEN_TREE_CLONE = 1
const O_CLOEXEC = 0o2000000
const MOVE_MOUNT_F_EMPTY_PATH = 0x4
const MOVE_MOUNT_T_SYMLINKS = 0x10
const MOUNT_ATTR_IDMAP = 0x100000

const closeFd = declare('int close(int fd)')
const openTree = declare('long syscall(long number, int dir, const char *path, unsigned int flags)')
const moveMount = declare(
  'long syscall(long number, int from, const char *fromPath, int to, const char *toPath, unsigned int flags)',
)
const setAttributes = declare(
  'long syscall(long number, int dir, const char *path, unsigned int flags, const void *attributes, size_t size)',
)

/** What changes of a mount. Numbers are the kernel's `MOUNT_ATTR_*` and `MS_*`. */
export interface TreeChange {
  readonly set?: number
  readonly clear?: number
  /** `MS_SHARED`, `MS_PRIVATE`, `MS_SLAVE` or `MS_UNBINDABLE`. */
  readonly propagation?: number
  /** A descriptor of the user namespace that maps the ids; only for a tree that is not attached yet. */
  readonly userNamespace?: number
  /** All mounts below, too. */
  readonly recursive: boolean
}

/**
 * A copy of the mount that holds a path, with that path as its root: a bind mount that is nowhere yet. It needs Linux 5.12.
 * Disposing lets go of it; what was attached stays.
 */
export interface MountTree extends Disposable {
  readonly fd: number
  /** @throws {SystemError} `EINVAL` where the file system cannot map ids, `EPERM` for what a parent namespace has locked */
  change(change: TreeChange): void
  /** Mounts it. A descriptor under `/proc/self/fd` may stand for the path. @throws {SystemError} */
  attach(target: string): void
}

/** @param recursive with the mounts below. @throws {SystemError} `ENOENT`, `EPERM`, ... */
export function openMountTree(path: string, recursive: boolean): MountTree {
  const flags = OPEN_TREE_CLONE | O_CLOEXEC | (recursive ? AT_RECURSIVE : 0)
  const fd = openTree(path, SYS_OPEN_TREE, AT_FDCWD, path, flags)
  return {
    fd,
    change({ set = 0, clear = 0, propagation = 0, userNamespace, recursive }) {
      const idmap = userNamespace === undefined ? 0 : MOUNT_ATTR_IDMAP
      const attributes = new BigUint64Array([set | idmap, clear, propagation, userNamespace ?? 0].map(BigInt))
      const bytes = new Uint8Array(attributes.buffer)
      const flags = AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0)
      setAttributes(path, SYS_MOUNT_SETATTR, fd, '', flags, bytes, bytes.length)
    },
    attach(target) {
      moveMount(target, SYS_MOVE_MOUNT, fd, '', AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS)
    },
    [Symbol.dispose]: () => void closeFd(`fd ${fd}`, fd),
  }
}
