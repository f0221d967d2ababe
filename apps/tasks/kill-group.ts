import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { identify, sendSignal } from '@gantry/linux/process'
import { isSystemError } from '@gantry/linux/system'
import { CGROUPS, isUnified, pidsOf, readText } from './cgroup.ts'

const QUICK = 3 // passes before the group is stopped for one
const PASSES = 10
const FREEZE_MS = 2000 // how long the group may take to stand still
const STEP_MS = 10
const SIGKILL = 9

/**
 * Kills every process of a cgroup, also those that fork faster than they can be listed: what has its signal forks no more, so
 * the rest is looked for until there is none; what still gets away is stopped by the freezer first. Linux 5.14 and later does
 * it by itself on a unified host.
 */
export async function killGroup(cgroup: string): Promise<void> {
  if (isUnified() && write(join(CGROUPS, cgroup, 'cgroup.kill'), '1')) return
  const signalled = new Set<string>()
  for (let pass = 1; pass <= PASSES; pass++) {
    const thaw = pass > QUICK ? await freeze(cgroup) : undefined
    const found = pidsOf(cgroup).flatMap((pid) => identify(pid) ?? [])
    const missed = found.filter(({ pid, startTime }) => !signalled.has(`${pid} ${startTime}`))
    for (const process of missed) {
      sendSignal(process, SIGKILL)
      signalled.add(`${process.pid} ${process.startTime}`)
    }
    thaw?.()
    if (missed.length === 0) return
  }
}

/** Stops all that is in a group. @returns what lets it go on, or undefined where there is no freezer */
async function freeze(cgroup: string): Promise<(() => void) | undefined> {
  const [file, frozen, thawed] = isUnified()
    ? [join(CGROUPS, cgroup, 'cgroup.freeze'), '1', '0']
    : [join(CGROUPS, 'freezer', cgroup, 'freezer.state'), 'FROZEN', 'THAWED']
  if (!write(file, frozen)) return undefined
  const stands = (): boolean =>
    isUnified()
      ? /^frozen 1$/m.test(readText(join(CGROUPS, cgroup, 'cgroup.events')))
      : readText(file).trim() === frozen
  for (const deadline = performance.now() + FREEZE_MS; !stands() && performance.now() < deadline; ) await sleep(STEP_MS)
  return () => void write(file, thawed)
}

/** @returns false when the kernel has no such file, or the group is gone */
function write(path: string, text: string): boolean {
  try {
    writeFileSync(path, text, { flag: 'r+' })
    return true
  } catch (error) {
    if (isSystemError(error, 'ENOENT', 'ENODEV', 'EOPNOTSUPP')) return false // EOPNOTSUPP: a threaded group
    throw error
  }
}
