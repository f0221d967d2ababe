import { identify, type ProcessId } from './process.ts'
import { declare, declareBlocking, SystemError, type SystemFunction } from './system.ts'

const SETSIGDEF = 0x04
const SETSIGMASK = 0x08
const SETSID = 0x80
const OPAQUE = 512 // bytes: more than any libc takes for a structure of posix_spawn(3)
const SIGNALS = 128 // bytes of a set of signals
const WNOHANG = 1

/** A program that is to live on without us. */
export interface Detached {
  /** A path, or a name to be found in PATH. */
  readonly program: string
  readonly args: readonly string[]
  /** The whole environment. */
  readonly env: Readonly<Record<string, string>>
  readonly cwd: string
  /** Descriptors that it gets as 0, 1, 2 and so on; of the others those that are not close-on-exec. */
  readonly fds: readonly number[]
}

/**
 * Starts a program in a session of its own. `node:child_process` copies the page tables of this process for it and waits, for
 * some milliseconds in which nothing else runs; this shares them (posix_spawn(3)), and only a thread of the pool waits until the
 * program runs. The descriptors have to stay open until then. A child that has ended is reaped; nobody is told.
 * @throws {SystemError} `ENOENT` and what else execve(2) says
 */
export async function spawnDetached({ program, args, env, cwd, fds }: Detached): Promise<ProcessId> {
  if (fds.some((fd) => fd < fds.length)) throw new Error('A descriptor would be overwritten by another')
  using actions = structure(actionsInit, actionsDestroy)
  using attributes = structure(attributesInit, attributesDestroy)
  check(setFlags(program, attributes.bytes, SETSIGDEF | SETSIGMASK | SETSID), program)
  check(setDefault(program, attributes.bytes, Buffer.alloc(SIGNALS, 0xff)), program)
  check(setMask(program, attributes.bytes, Buffer.alloc(SIGNALS)), program)
  check(addChdir(cwd, actions.bytes, cwd), cwd)
  for (const [place, fd] of fds.entries()) check(addDup(program, actions.bytes, fd, place), program)
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`)
  const pid = Buffer.alloc(4)
  if (!process.listeners('SIGCHLD').includes(reap)) process.on('SIGCHLD', reap)
  const argv = [program, ...args, null]
  check(await posixSpawn(pid, program, actions.bytes, attributes.bytes, argv, [...variables, null]), program)
  const child = identify(pid.readInt32LE())
  if (child === undefined) throw new Error('A child that nobody has reaped is gone')
  children.add(child.pid)
  reap() // its end may have come before its pid
  return child
}

const children = new Set<number>()

/** Only our own: those of `node:child_process` are waited for by Node. */
function reap(): void {
  const status = Buffer.alloc(4)
  for (const pid of children) {
    try {
      if (waitpid('', pid, status, WNOHANG) === pid) children.delete(pid)
    } catch {
      children.delete(pid) // it is nobody's any more
    }
  }
}

function structure(init: SystemFunction, destroy: SystemFunction): Disposable & { readonly bytes: Buffer } {
  const bytes = Buffer.alloc(OPAQUE)
  check(init('', bytes), '')
  return { bytes, [Symbol.dispose]: () => void destroy('', bytes) }
}

/** These functions answer the error itself. */
function check(errno: number, where: string): void {
  if (errno !== 0) throw new SystemError(errno, 'posix_spawn', where)
}

const posixSpawn = declareBlocking(
  'int posix_spawnp(void *pid, const char *file, void *actions, void *attributes, const char **argv, const char **env)',
)
const actionsInit = declare('int posix_spawn_file_actions_init(void *actions)')
const actionsDestroy = declare('int posix_spawn_file_actions_destroy(void *actions)')
const addDup = declare('int posix_spawn_file_actions_adddup2(void *actions, int fd, int place)')
const addChdir = declare('int posix_spawn_file_actions_addchdir_np(void *actions, const char *path)')
const attributesInit = declare('int posix_spawnattr_init(void *attributes)')
const attributesDestroy = declare('int posix_spawnattr_destroy(void *attributes)')
const setFlags = declare('int posix_spawnattr_setflags(void *attributes, short flags)')
const setDefault = declare('int posix_spawnattr_setsigdefault(void *attributes, void *set)')
const setMask = declare('int posix_spawnattr_setsigmask(void *attributes, void *set)')
const waitpid = declare('int waitpid(int pid, void *status, int options)')
