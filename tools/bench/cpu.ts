/** Processor time, which tells more than wall time on a machine that others use too. */
import { readFileSync } from 'node:fs'

const TICK_MS = 10 // the unit in which the kernel tells it

/** What these processes have used until now, in ms; one that is gone counts nothing. */
export function cpuMsOf(processes: Iterable<number>): number {
  let ticks = 0
  for (const pid of processes) ticks += ticksOf(pid)
  return ticks * TICK_MS
}

function ticksOf(pid: number): number {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ') ?? []
    return Number(fields[11]) + Number(fields[12]) // user and system
  } catch {
    return 0
  }
}
