/**
 * Who runs a node on a state folder:
 *
 *   <state>/up.lock        the `gantry up` that runs: {"pid", "startTime"}
 *   <state>/up.processes   what it started: [{"name", "pid", "startTime", "restarts", "lastEnd"}], rewritten at each start
 *
 * Both outlive a `gantry up` that was killed; the next one takes over the lock and stops what the last one left.
 */
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { identify, isAlive, type ProcessId } from '@gantry/linux/process'
import { Fault } from '@gantry/model/fault'

const ATTEMPTS = 10

export interface NamedProcess extends ProcessId {
  readonly name: string
  /** How often it was started again, since the node began. */
  readonly restarts: number
  /** How it ended the last time, such as `signal SIGKILL`; empty when it never did. */
  readonly lastEnd: string
}

export interface NodeLock extends Disposable {
  /** What an earlier `gantry up` left running on this state folder. */
  readonly leftovers: readonly NamedProcess[]
  /** Remembers a process, in place of the last one of its name. */
  record(process: NamedProcess): void
}

/**
 * Takes the state folder for this process.
 *
 * @throws {Fault} `failed-precondition` when another `gantry up` runs on it
 */
export function lockNode(state: string): NodeLock {
  const lock = join(state, 'up.lock')
  const list = listIn(state)
  takeLock(lock, state)
  const leftovers = readProcesses(state).filter(isAlive)
  const processes = new Map(leftovers.map((process) => [process.name, process]))
  return {
    leftovers,
    record(process) {
      processes.set(process.name, process)
      const draft = `${list}.new`
      writeFileSync(draft, JSON.stringify([...processes.values()]), { mode: 0o600 })
      renameSync(draft, list)
    },
    [Symbol.dispose]() {
      rmSync(list, { force: true })
      rmSync(lock, { force: true })
    },
  }
}

/** What the `gantry up` of a state folder has started, the dead included; nothing when none ever ran. */
export function readProcesses(state: string): NamedProcess[] {
  return parseProcesses(readText(listIn(state)))
}

function listIn(state: string): string {
  return join(state, 'up.processes')
}

/** A link either makes the name or fails, so only one can have it; a dead owner's file is moved away first. */
function takeLock(lock: string, state: string): void {
  const own = identify(process.pid)
  const draft = `${lock}.${process.pid}`
  writeFileSync(draft, JSON.stringify(own), { mode: 0o600 })
  try {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      if (tryLink(draft, lock)) return
      refuseWhileAlive(lock, state)
      takeAway(lock, `${draft}.old`, state)
    }
  } finally {
    rmSync(draft, { force: true })
  }
  throw new Fault('failed-precondition', `Cannot take ${lock}: others take it again and again`)
}

/** Moves a dead owner's file away; puts it back when, meanwhile, it became somebody else's who is alive. */
function takeAway(lock: string, aside: string, state: string): void {
  try {
    renameSync(lock, aside)
  } catch (error) {
    if (isCode(error, 'ENOENT')) return
    throw error
  }
  try {
    refuseWhileAlive(aside, state)
  } catch (error) {
    tryLink(aside, lock)
    throw error
  } finally {
    rmSync(aside, { force: true })
  }
}

function refuseWhileAlive(file: string, state: string): void {
  const owner = parseProcess(readText(file))
  if (owner && isAlive(owner))
    throw new Fault(
      'failed-precondition',
      `Cannot start a node on ${state}: gantry up already runs on it, as process ${owner.pid}`,
    )
}

function tryLink(from: string, to: string): boolean {
  try {
    linkSync(from, to)
    return true
  } catch (error) {
    if (isCode(error, 'EEXIST')) return false
    throw error
  }
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    if (isCode(error, 'ENOENT')) return ''
    throw error
  }
}

function parseProcesses(text: string): NamedProcess[] {
  const value = parseJson(text)
  return Array.isArray(value) ? value.flatMap((entry) => toProcess(entry) ?? []) : []
}

function parseProcess(text: string): ProcessId | undefined {
  return toProcess(parseJson(text))
}

/** A file that was cut short by a crash of the host says nothing about a process that runs. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function toProcess(value: unknown): NamedProcess | undefined {
  if (typeof value !== 'object' || value === null || !('pid' in value) || !('startTime' in value)) return undefined
  const { pid, startTime } = value
  if (typeof pid !== 'number' || !Number.isInteger(pid) || pid <= 1 || typeof startTime !== 'string') return undefined
  const restarts = 'restarts' in value && typeof value.restarts === 'number' ? value.restarts : 0
  const lastEnd = 'lastEnd' in value ? String(value.lastEnd) : ''
  return { pid, startTime, name: 'name' in value ? String(value.name) : '', restarts, lastEnd }
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code
}
