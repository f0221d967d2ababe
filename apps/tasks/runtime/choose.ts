import { accessSync, constants, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { Fault } from '@gantry/model/fault'

/** Which OCI runtime a task gets when its client names none, and why. */
export interface Choice {
  readonly binary: string
  readonly reason: string
}

/** What is looked at to choose; a parameter so that tests need no host of each kind. */
export interface Host {
  /** Absolute path of a program, or undefined when it is not installed. */
  find(program: string): string | undefined
  /** Controllers left in the unified hierarchy of a hybrid host, empty when there is no such hierarchy. */
  leftControllers(): string
}

/** Looks at this machine. @param path as in the environment variable PATH */
export function createHost(path: string): Host {
  return {
    find: (program) =>
      (program.startsWith('/') ? [program] : path.split(':').map((folder) => join(folder, program))).find(isProgram),
    leftControllers() {
      try {
        return readFileSync('/sys/fs/cgroup/unified/cgroup.controllers', 'utf8').trim()
      } catch {
        return ''
      }
    },
  }
}

/**
 * Chooses the runtime: the configured path, or crun where it works (it starts a container in half the time of runc).
 * It is asked at every Create, so that installing a program needs no restart.
 * @param configured `auto` or an absolute path
 * @throws {Fault} `failed-precondition` that says what is missing and how to get it
 */
export function chooseRuntime(configured: string, host: Host): Choice {
  if (configured !== 'auto') {
    const binary = host.find(configured)
    if (binary !== undefined) return { binary, reason: 'it is configured' }
    throw new Fault('failed-precondition', `Cannot run containers: the configured runtime ${configured} is no program`)
  }
  const left = host.leftControllers()
  const crun = host.find('crun')
  const runc = host.find('runc')
  if (crun !== undefined && left === '') return { binary: crun, reason: 'crun is installed and works here' }
  if (runc !== undefined) return { binary: runc, reason: crun === undefined ? 'only runc is installed' : hybrid(left) }
  if (crun !== undefined) throw new Fault('failed-precondition', `Cannot run containers: ${hybrid(left)}; install runc`)
  throw new Fault('failed-precondition', 'Cannot run containers: no OCI runtime is installed; install crun or runc')
}

/** The path of conmon. @throws {Fault} `failed-precondition` that says how to get it */
export function findConmon(configured: string, host: Host): string {
  const path = host.find(configured)
  if (path !== undefined) return path
  throw new Fault(
    'failed-precondition',
    `Cannot run containers: ${basename(configured)} is not installed; install conmon`,
  )
}

function hybrid(left: string): string {
  return `crun refuses a hybrid cgroup set-up with controllers in v2 (${left})`
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
