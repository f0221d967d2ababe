import {
  closeSync,
  constants,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { Socket } from 'node:net'
import { join } from 'node:path'
import { identify, isAlive, type ProcessId, startTimeOf } from '@gantry/linux/process'
import { isSystemError } from '@gantry/linux/system'
import { CGROUPS, isUnified } from '../cgroup.ts'
import { isCrun, isRunc } from './reach.ts'
import type { RuntimeTask } from './runtime.ts'

// What `start` and `delete` of runc and crun do in ten milliseconds each, most of them for starting the program, done here in
// one. It is done only where they would do no more than this: without hooks, systemd or cache partitions; else the answer is no
// and the runtime is asked. Both keep a container's state in <root>/<id>/, and there the FIFO exec.fifo while its init waits for
// the start: runc's writes to it, crun's reads from it.

const LOOK_MS = 100 // how soon it is seen that init is gone, instead of going on

/** Lets a created container's init go on. @returns whether it did */
export async function startDirectly(task: RuntimeTask): Promise<boolean> {
  const fifo = join(stateFolder(task), 'exec.fifo')
  const state = readState(task)
  if (state === undefined || !lstatSync(fifo, { throwIfNoEntry: false })?.isFIFO()) return false
  if (isCrun(task.runtime.binary)) return writeByte(fifo)
  const init = identify(state.pid)
  if (init === undefined || !(await readByte(fifo, init))) return false
  rmSync(fifo, { force: true })
  return true
}

/**
 * Removes the cgroups and the state of a container whose init has ended. @returns whether it did; when something still
 * lives in a cgroup, runc has to kill it
 */
export function deleteDirectly(task: RuntimeTask): boolean {
  const state = readState(task)
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

/** The parts of the runtime's own record that are needed here, or undefined when they are not all there, or are not plain. */
function readState(task: RuntimeTask): State | undefined {
  const { binary, systemdCgroup } = task.runtime
  if (systemdCgroup) return undefined
  const read = isRunc(binary) ? runcState : isCrun(binary) ? crunState : undefined
  try {
    return read?.(stateFolder(task))
  } catch {
    return undefined
  }
}

function runcState(folder: string): State | undefined {
  const state = JSON.parse(readFileSync(join(folder, 'state.json'), 'utf8'))
  const hooks: unknown[] = Object.values(state.config.Hooks ?? {})
  const cgroups: unknown[] = Object.values(state.cgroup_paths)
  const paths = cgroups.filter((path) => typeof path === 'string' && path.startsWith(`${CGROUPS}/`))
  const isSimple = hooks.every((list) => list === null) && !state.intel_rdt_path && !state.config.intelRdt
  if (!isSimple || typeof state.init_process_pid !== 'number' || paths.length < Math.max(1, cgroups.length))
    return undefined
  return { pid: state.init_process_pid, cgroups: paths.map(String) }
}

/** crun's record has one path, which counts in every hierarchy; the specification lies beside it. */
function crunState(folder: string): State | undefined {
  const { pid, scope, 'cgroup-path': path } = JSON.parse(readFileSync(join(folder, 'status'), 'utf8'))
  const { hooks, linux } = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'))
  const isSimple = Object.keys(hooks ?? {}).length === 0 && !linux?.intelRdt && !scope
  if (!isSimple || typeof pid !== 'number' || typeof path !== 'string') return undefined
  if (!/^\/[^/]/.test(path) || path.split('/').includes('..')) return undefined
  const hierarchies = isUnified() ? [''] : readdirSync(CGROUPS)
  return { pid, cgroups: hierarchies.map((hierarchy) => join(CGROUPS, hierarchy, path)) }
}

function stateFolder({ runtime, id }: RuntimeTask): string {
  return join(runtime.root, id)
}

/** One folder a controller; two may be the same. */
function removeCgroup(path: string): void {
  try {
    rmdirSync(path)
  } catch (error) {
    if (!isSystemError(error, 'ENOENT', 'ENOTDIR')) throw error
  }
}

/** As crun does it: the FIFO is gone before init goes on. False when nobody waits at it. */
function writeByte(path: string): boolean {
  let fd: number
  try {
    fd = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK)
  } catch (error) {
    if (isSystemError(error, 'ENXIO')) return false
    throw error
  }
  try {
    rmSync(path, { force: true })
    writeSync(fd, '\0')
    return true
  } finally {
    closeSync(fd)
  }
}

/**
 * Opens a FIFO for reading and waits for the byte of init; false when that is gone without one. Nothing else ends the wait: to
 * stop reading may lose the byte, and runc would wait for it for ever.
 */
function readByte(path: string, init: ProcessId): Promise<boolean> {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK) // does not wait for the writer
  const socket = new Socket({ fd, readable: true, writable: false })
  return new Promise((resolve) => {
    const done = (result: boolean): void => {
      clearInterval(timer)
      socket.destroy()
      resolve(result)
    }
    const timer = setInterval(() => {
      if (!isAlive(init)) setImmediate(done, false) // after what it wrote
    }, LOOK_MS)
    socket.once('data', () => done(true))
    socket.once('end', () => done(false))
    socket.once('error', () => done(false))
  })
}
