import { accessSync, constants, existsSync, readFileSync, realpathSync } from 'node:fs'
import { basename, join, normalize } from 'node:path'
import { openMountsCovering } from '@gantry/linux/mount-namespace'
import { isSystemError } from '@gantry/linux/system'
import { Fault } from '@gantry/model/fault'

/** Where a hybrid host has cgroup v2. */
export const UNIFIED = '/sys/fs/cgroup/unified'

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
  /** Can a program be started without sight of that hierarchy? */
  canHide(): boolean
}

/** Looks at this machine. @param path as in the environment variable PATH */
export function createHost(path: string): Host {
  const find: Host['find'] = (program) =>
    (program.startsWith('/') ? [program] : path.split(':').map((folder) => join(folder, program))).find(isProgram)
  let hides: boolean | undefined // it does not change while we run
  return {
    find,
    leftControllers() {
      try {
        return readFileSync(join(UNIFIED, 'cgroup.controllers'), 'utf8').trim()
      } catch {
        return ''
      }
    },
    canHide() {
      hides ??= canCover()
      return hides && find('nsenter') !== undefined
    },
  }
}

/**
 * Chooses the runtime: the configured path, or crun where it works (it starts a container in half the time of runc).
 * It is asked at every Create, so that installing a program needs no restart.
 * @param configured `auto` or an absolute path
 * @param spec the container's, when it is known: some are better left to runc, if that is there
 * @param isRestored it goes on from a checkpoint: Debian's crun is built without criu
 * @throws {Fault} `failed-precondition` that says what is missing and how to get it
 */
export function chooseRuntime(configured: string, host: Host, spec?: Uint8Array, isRestored = false): Choice {
  if (configured !== 'auto') {
    const binary = host.find(configured)
    if (binary !== undefined) return { binary, reason: 'it is configured' }
    throw new Fault('failed-precondition', `Cannot run containers: the configured runtime ${configured} is no program`)
  }
  const left = host.leftControllers()
  const crun = host.find('crun')
  const runc = host.find('runc')
  const isLeft = runc !== undefined && (isRestored || (spec !== undefined && suitsRunc(spec, left !== '')))
  if (crun !== undefined && !isLeft && left === '') return { binary: crun, reason: 'crun is installed and works here' }
  if (crun !== undefined && !isLeft && host.canHide())
    return { binary: crun, reason: `crun is installed and is not shown what is left in cgroup v2 (${left})` }
  if (runc !== undefined && isLeft) return { binary: runc, reason: 'the container is one for runc' }
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

/**
 * runc refuses mounts over /proc, by which an image could pretend that it is confined (CVE-2019-16884); crun makes them. crun asks for
 * a folder /dev. And where it is not shown all of the host, its hooks and bind mounts are not either. What cannot be read is refused
 * later, in better words.
 */
function suitsRunc(spec: Uint8Array, hides: boolean): boolean {
  try {
    const { hooks, mounts, root } = JSON.parse(new TextDecoder().decode(spec))
    const all: SpecMount[] = mounts ?? []
    if (all.some(({ destination, type }) => type !== 'proc' && isProc(destination))) return true
    if (!all.some(({ destination }) => destination === '/dev')) return true
    const sources = [root?.path, ...all.map(({ source }) => source)]
    return hides && (Object.keys(hooks ?? {}).length > 0 || sources.some(seesUnified))
  } catch {
    return false
  }
}

interface SpecMount {
  readonly destination?: unknown
  readonly type?: unknown
  readonly source?: unknown
}

function isProc(destination: unknown): boolean {
  return typeof destination === 'string' && `${normalize(`/${destination}`)}/`.startsWith('/proc/')
}

function seesUnified(source: unknown): boolean {
  if (typeof source !== 'string' || !source.startsWith('/')) return false
  const path = `${realPath(source)}/`.replace('//', '/')
  return `${UNIFIED}/`.startsWith(path) || path.startsWith(`${UNIFIED}/`)
}

function realPath(path: string): string {
  try {
    return realpathSync.native(path)
  } catch {
    return path
  }
}

function canCover(): boolean {
  try {
    using _ = openMountsCovering(UNIFIED)
    return true
  } catch (error) {
    if (isSystemError(error)) return false
    throw error
  }
}

function hybrid(left: string): string {
  return `crun refuses a hybrid cgroup set-up with controllers in v2 (${left})`
}

/** Most folders of a PATH have no such file: an error for each of a dozen costs more than a look. */
function isProgram(path: string): boolean {
  try {
    if (!existsSync(path)) return false
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
