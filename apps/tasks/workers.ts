import { readdirSync, readlinkSync } from 'node:fs'
import { identify, type ProcessId } from '@gantry/linux/process'
import { isSystemError } from '@gantry/linux/system'

/**
 * The processes that work below a folder, also when theirs is gone. Only those that see the same mounts as we do are
 * believed: a container may have a folder of any name.
 */
export function workersBelow(folder: string): { process: ProcessId; folder: string }[] {
  const own = mountsOf('self')
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      const at = linkOf(`/proc/${name}/cwd`)?.replace(/ \(deleted\)$/, '')
      if (at === undefined || !at.startsWith(`${folder}/`) || mountsOf(name) !== own) return []
      const process = identify(Number(name))
      return process ? [{ process, folder: at }] : []
    })
}

function mountsOf(pid: string): string | undefined {
  return linkOf(`/proc/${pid}/ns/mnt`)
}

function linkOf(path: string): string | undefined {
  try {
    return readlinkSync(path)
  } catch (error) {
    if (isSystemError(error, 'ENOENT', 'ESRCH', 'EACCES', 'EPERM')) return undefined // gone, or a kernel thread
    throw error
  }
}
