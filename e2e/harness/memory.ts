/** Memory as the kernel accounts it: PSS shares a page among the processes that map it. */
import { readFileSync } from 'node:fs'

/** MiB of all these processes together; one that is gone counts nothing. */
export function pssOf(processes: Iterable<number>): number {
  let kib = 0
  for (const pid of processes) kib += pssKiB(pid)
  return kib / 1024
}

function pssKiB(pid: number): number {
  try {
    return Number(/^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1] ?? 0)
  } catch {
    return 0
  }
}

/** The most memory a process ever had in use, in MiB (VmHWM). */
export function peakOf(pid: number): number {
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024
}
