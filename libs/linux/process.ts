import { readdirSync, readFileSync, statSync } from 'node:fs'
import { declare, isSystemError } from './system.ts'

const SYS_PIDFD_SEND_SIGNAL = 424 // the same number on x64 and arm64
const SYS_PIDFD_OPEN = 434
const SYS_PIDFD_GETFD = 438
const F_SETFD = 2
const FD_CLOEXEC = 1
const F_GETFL = 3
const F_SETFL = 4
const O_NONBLOCK = 0o4000
const O_CLOEXEC = 0o2000000

/** A process that a reused pid cannot be mistaken for: its start time is part of it, so it may be kept in records. */
export interface ProcessId {
  readonly pid: number
  /** Clock ticks since boot, as text, so that it may be stored as JSON. */
  readonly startTime: string
}

/** The process with this pid now, or undefined when there is none (a zombie still is one). */
export function identify(pid: number): ProcessId | undefined {
  const startTime = startTimeOf(pid)
  return startTime === undefined ? undefined : { pid, startTime: startTime.toString() }
}

/** When a process started, in clock ticks since boot (field 22 of its stat), or undefined when it is gone. */
export function startTimeOf(pid: number): bigint | undefined {
  const fields = statFields(pid)
  return fields?.[19] === undefined ? undefined : BigInt(fields[19])
}

/** Is this very process still running? One that has exited and only waits to be reaped is not. */
export function isAlive(process: ProcessId): boolean {
  const fields = statFields(process.pid)
  return fields !== undefined && fields[19] === process.startTime && fields[0] !== 'Z' && fields[0] !== 'X'
}

/**
 * Sends a signal to this very process: never to another one that got its pid meanwhile.
 * @returns whether it was there to get it
 * @throws {SystemError} EPERM, or EINVAL for a signal that does not exist
 */
export function sendSignal(process: ProcessId, signal: number): boolean {
  const where = `pid ${process.pid}`
  try {
    using handle = openPidfd(process.pid)
    if (!isAlive(process)) return false
    pidfdSendSignal(where, SYS_PIDFD_SEND_SIGNAL, handle.fd, signal, 0, 0)
    return true
  } catch (error) {
    if (isSystemError(error, 'ESRCH')) return false
    throw error
  }
}

/**
 * A duplicate of a descriptor of this very process, or undefined when the process is gone; the caller closes it.
 * It shares the open file, so whatever is set on it counts for the other process as well.
 */
export function borrowFd(process: ProcessId, fd: number): number | undefined {
  const where = `pid ${process.pid} fd ${fd}`
  try {
    using handle = openPidfd(process.pid)
    return isAlive(process) ? pidfdGetfd(where, SYS_PIDFD_GETFD, handle.fd, fd, 0) : undefined
  } catch (error) {
    if (isSystemError(error, 'ESRCH')) return undefined
    throw error
  }
}

/**
 * The processes whose working folder is `dir` itself, seen from outside: compared by inode, so that a container cannot
 * pretend by a path of its own. Slow (reads all of /proc): for cleaning up after a crash.
 */
export function processesIn(dir: string): ProcessId[] {
  const wanted = statSync(dir, { throwIfNoEntry: false })
  if (wanted === undefined) return []
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && hasWorkingFolder(name, wanted))
    .flatMap((name) => identify(Number(name)) ?? [])
}

/** Turns O_NONBLOCK of an open file on or off: it belongs to the open file, so everyone who shares it is affected. */
export function setNonBlocking(fd: number, on: boolean): void {
  const flags = fcntl(`fd ${fd}`, fd, F_GETFL, 0)
  fcntl(`fd ${fd}`, fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK)
}

/** A pipe, both ends blocking and close-on-exec: a program gets one only when it is handed to it. The caller closes both. */
export function openPipe(): { readonly read: number; readonly write: number } {
  const ends = Buffer.alloc(8) // two ints
  pipe2('pipe', ends, O_CLOEXEC)
  return { read: ends.readInt32LE(0), write: ends.readInt32LE(4) }
}

/** Keeps a descriptor from the programs this process starts; for descriptors that a library opened without it. */
export function setCloseOnExec(fd: number): void {
  fcntl(`fd ${fd}`, fd, F_SETFD, FD_CLOEXEC)
}

/** Fields of /proc/<pid>/stat from the third (state) on. The second may hold spaces and parentheses, so count from its end. */
function statFields(pid: number): string[] | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  } catch (error) {
    if (isSystemError(error, 'ENOENT', 'ESRCH')) return undefined
    throw error
  }
}

function hasWorkingFolder(pid: string, wanted: { dev: number; ino: number }): boolean {
  try {
    const cwd = statSync(`/proc/${pid}/cwd`)
    return cwd.dev === wanted.dev && cwd.ino === wanted.ino
  } catch {
    return false // gone meanwhile, a kernel thread, or not ours to look at
  }
}

function openPidfd(pid: number): Disposable & { readonly fd: number } {
  const fd = pidfdOpen(`pid ${pid}`, SYS_PIDFD_OPEN, pid, 0)
  return { fd, [Symbol.dispose]: () => void close(`fd ${fd}`, fd) }
}

const pidfdOpen = declare('long syscall(long number, int pid, uint flags)')
const pidfdSendSignal = declare('long syscall(long number, int pidfd, int signal, long info, uint flags)')
const pidfdGetfd = declare('long syscall(long number, int pidfd, int fd, uint flags)')
const fcntl = declare('int fcntl(int fd, int command, int argument)')
const pipe2 = declare('int pipe2(void *ends, int flags)')
const close = declare('int close(int fd)')
