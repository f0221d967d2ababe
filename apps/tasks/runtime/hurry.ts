import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isSystemError } from '@gantry/linux/system'
import { CGROUPS, isUnified, parseCgroups, readText } from '../cgroup.ts'

/**
 * Takes a wait of about ten milliseconds out of the OCI runtime's way. The first process that changes its cgroup after a
 * while has to wait until all processors have passed a quiet state (the kernel's cgroup_threadgroup_rwsem is a per-CPU lock
 * that is cheap for readers and dear for the first writer); further changes soon after it do not. So while a runtime is
 * being started, we move ourselves into the group that we are in already: nothing changes, and the wait is over when the
 * runtime comes to it. Where we may not, it only takes longer.
 */
export function createHurry(): () => void {
  let isRunning = false // once is enough for all that start at the same time
  return () => {
    if (isRunning) return
    isRunning = true
    void touch().finally(() => {
      isRunning = false
    })
  }
}

async function touch(): Promise<void> {
  const own = parseCgroups(readText('/proc/self/cgroup'))
  const path = own.get(isUnified() ? '' : 'freezer')
  if (path === undefined || path.includes('..')) return
  try {
    await writeFile(join(CGROUPS, isUnified() ? '' : 'freezer', path, 'cgroup.procs'), '0', { flag: 'r+' }) // 0 is who writes
  } catch (error) {
    if (!isSystemError(error)) throw error
  }
}
