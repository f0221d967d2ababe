import { realpathSync } from 'node:fs'
import { basename } from 'node:path'
import { openMountsCovering } from '@gantry/linux/mount-namespace'
import { type Host, UNIFIED } from './choose.ts'

/** How the program of an OCI runtime is started, until this is disposed. */
export interface Reached extends Disposable {
  readonly program: string
  /** What comes before its own arguments. */
  readonly args: readonly string[]
}

/** Finds out how a runtime is started on this host; asked anew for every start. */
export type Reach = (binary: string) => Reached

/**
 * crun refuses a host that has controllers in cgroup v1 and some in v2 ("hybrid mode not supported"), which it tells by what is
 * mounted. There it is started in a mount namespace of its own without the unified hierarchy, and does everything in v1, where
 * nearly all controllers are. The namespace ends with the command: a container gets one of its own, and its monitor stays in ours.
 */
export function createReach(host: Pick<Host, 'find' | 'leftControllers'>): Reach {
  return (binary) => {
    const enter = isCrun(binary) && host.leftControllers() !== '' ? host.find('nsenter') : undefined
    if (enter === undefined) return { program: binary, args: [], [Symbol.dispose]() {} }
    const { path, [Symbol.dispose]: end } = openMountsCovering(UNIFIED)
    return { program: enter, args: [`--mount=${path}`, '--', binary], [Symbol.dispose]: end }
  }
}

export function isCrun(binary: string): boolean {
  return isNamed(binary, 'crun')
}

export function isRunc(binary: string): boolean {
  return isNamed(binary, 'runc')
}

function isNamed(binary: string, name: string): boolean {
  try {
    return basename(realpathSync.native(binary)) === name
  } catch {
    return false
  }
}
