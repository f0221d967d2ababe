import { constants, lstatSync, openSync, readFileSync, realpathSync, rmdirSync, rmSync } from 'node:fs'
import { Socket } from 'node:net'
import { basename, join } from 'node:path'
import { startTimeOf } from '@gantry/linux/process'
import { isSystemError } from '@gantry/linux/system'
import type { RuntimeTask } from './runtime.ts'

// What `runc start` and `runc delete` do in ten milliseconds each, most of them for starting runc, done here in one. It is
// done only where runc would do no more than this: without hooks, systemd or cache partitions; else the answer is no and
// runc is asked. runc keeps a container's state in <root>/<id>/, and the FIFO exec.fifo while its init waits for the start.

const OPEN_MS = 1000 // how long init may take to open the FIFO that it is waiting at

/** Lets a created container's init go on: it writes a byte as soon as somebody reads. @returns whether it did */
export async function startDirectly(task: RuntimeTask): Promise<boolean> {
  const folder = stateFolder(task)
  const fifo = join(folder, 'exec.fifo')
  if (!isPlain(task) || readState(task) === undefined) return false
  if (!lstatSync(fifo, { throwIfNoEntry: false })?.isFIFO()) return false
  if (!(await readByte(fifo))) return false
  rmSync(fifo, { force: true })
  return true
}

/**
 * Removes the cgroups and the state of a container whose init has ended. @returns whether it did; when something still
 * lives in a cgroup, runc has to kill it
 */
export function deleteDirectly(task: RuntimeTask): boolean {
  const state = isPlain(task) ? readState(task) : undefined
  if (state === undefined || startTimeOf(state.pid) !== undefined) return false
  try {
    for (const path of state.cgroups) removeCgroup(path)
  } catch (error) {
    if (isSystemError(error)) return false
    throw error
  }
  rmSync(stateFolder(task), { recursive: true, force: true })
  return true
}

interface State {
  readonly pid: number
  readonly cgroups: readonly string[]
}

/** The parts of runc's own record that are needed here, or undefined when they are not all there. */
function readState(task: RuntimeTask): State | undefined {
  try {
    const state = JSON.parse(readFileSync(join(stateFolder(task), 'state.json'), 'utf8'))
    const hooks: unknown[] = Object.values(state.config.Hooks ?? {})
    const cgroups: unknown[] = Object.values(state.cgroup_paths)
    const paths = cgroups.filter((path) => typeof path === 'string' && path.startsWith('/sys/fs/cgroup/'))
    const isSimple = hooks.every((list) => list === null) && !state.intel_rdt_path && !state.config.intelRdt
    if (!isSimple || typeof state.init_process_pid !== 'number' || paths.length < Math.max(1, cgroups.length))
      return undefined
    return { pid: state.init_process_pid, cgroups: paths.map(String) }
  } catch {
    return undefined
  }
}

function isPlain({ runtime }: RuntimeTask): boolean {
  return !runtime.systemdCgroup && isRunc(runtime.binary)
}

function isRunc(binary: string): boolean {
  try {
    return basename(realpathSync(binary)) === 'runc'
  } catch {
    return false
  }
}

function stateFolder({ runtime, id }: RuntimeTask): string {
  return join(runtime.root, id)
}

/** One folder a controller; two may be the same. */
function removeCgroup(path: string): void {
  try {
    rmdirSync(path)
  } catch (error) {
    if (!isSystemError(error, 'ENOENT')) throw error
  }
}

/** Opens a FIFO for reading and waits for a byte; false when none comes in time. */
function readByte(path: string): Promise<boolean> {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK) // does not wait for the writer
  const socket = new Socket({ fd, readable: true, writable: false })
  return new Promise((resolve) => {
    const done = (result: boolean): void => {
      clearTimeout(timer)
      socket.destroy()
      resolve(result)
    }
    const timer = setTimeout(() => done(false), OPEN_MS)
    socket.once('data', () => done(true))
    socket.once('end', () => done(false))
    socket.once('error', () => done(false))
  })
}
