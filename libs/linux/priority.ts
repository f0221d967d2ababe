import { getPriority } from 'node:os'
import { declare, isSystemError } from './system.ts'

const SCHED_OTHER = 0
const SCHED_RESET_ON_FORK = 0x4000_0000
const PRIO_PROCESS = 0 // on Linux one thread; 0 is the one that calls
const NICE = -10 // about ten times the share of others, and so the first of those that wait

const schedSetscheduler = declare('int sched_setscheduler(int pid, int policy, const void *parameters)')
const setpriority = declare('int setpriority(int which, unsigned int who, int nice)')
const NO_PARAMETERS = new Uint8Array(4)

/**
 * Lets this thread, which sleeps most of the time, run as soon as it has something to do, however many others of its control
 * group or session work: between groups the kernel shares by other rules. Threads and processes that it starts later have the
 * usual priority again.
 *
 * @returns false where somebody has chosen a priority for it, the process may not (CAP_SYS_NICE), or the C library cannot
 *   (musl): nothing has changed then
 */
export function goFirst(): boolean {
  if (getPriority() !== 0) return false
  try {
    schedSetscheduler('', 0, SCHED_OTHER | SCHED_RESET_ON_FORK, NO_PARAMETERS)
    setpriority('', PRIO_PROCESS, 0, NICE)
    return true
  } catch (error) {
    if (isSystemError(error, 'EPERM', 'EACCES', 'ENOSYS')) return false
    throw error
  }
}
