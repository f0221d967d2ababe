import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { identify, type ProcessId } from '@gantry/linux/process'
import { isSystemError } from '@gantry/linux/system'

/**
 * The processes that work below a folder, also when theirs is gone. Only those that see the same mounts as we do are
 * believed: a container may have a folder of any name.
 */
export function workersBelow(folder: string): { process: ProcessId; folder: string }[] {
  return pids().flatMap((name) => {
    const at = linkOf(`/proc/${name}/cwd`)?.replace(/ \(deleted\)$/, '')
    if (at === undefined || !at.startsWith(`${folder}/`) || !seesOurMounts(name)) return []
    const process = identify(Number(name))
    return process ? [{ process, folder: at }] : []
  })
}

/** The processes whose environment has a variable that begins like this, such as `NAME=/path/`; the same are believed. */
export function workersWith(variable: string): ProcessId[] {
  return pids().flatMap((name) => {
    if (!environmentOf(name).includes(`\0${variable}`) || !seesOurMounts(name)) return []
    return identify(Number(name)) ?? []
  })
}

function pids(): string[] {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name))
}

function seesOurMounts(pid: string): boolean {
  return mountsOf(pid) === mountsOf('self')
}

function environmentOf(pid: string): string {
  try {
    return `\0${readFileSync(`/proc/${pid}/environ`, 'latin1')}`
  } catch (error) {
    if (isSystemError(error, 'ENOENT', 'ESRCH', 'EACCES', 'EPERM')) return ''
    throw error
  }
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
