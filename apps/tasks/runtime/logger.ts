import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync } from 'node:fs'
import { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { getSystemErrorMessage } from 'node:util'
import { identify, isAlive, openPipe, type ProcessId, sendSignal } from '@gantry/linux/process'
import { Fault } from '@gantry/model/fault'
import type { LoggerProgram, Sink } from './stdio.ts'

const READY_MS = 30_000 // how long a logger may take to get ready, as long as the opening of FIFOs in containerd
const FINISH_MS = 200 // how long it may go on by itself after the last byte
const TERM_MS = 12_000 // how long it may take after SIGTERM, as in containerd
const STEP_MS = 5
const SIGTERM = 15
const SIGKILL = 9

/** A logger that is ready, and the descriptors that lead to it. Disposing closes ours; the container keeps its own. */
export interface Logger extends Disposable, Sink {
  readonly process: ProcessId
}

/** Whose output it is: all that a logger's environment says. */
export interface LoggedProcess {
  /** The exec's id, and the container's for init. */
  readonly id: string
  readonly namespace: string
  /** The process folder, by which the logger is found after a crash. */
  readonly folder: string
}

/**
 * Starts a logger program and waits until it is ready: nothing is logged before (behaviour facts, 9.4). It gets the output
 * on descriptor 3, the errors on 4, and says on 5 that it is ready. It leads a session of its own, so it outlives us.
 * @throws {Fault} `unknown` when it cannot be started or does not get ready within 30 s; it is gone then
 */
export async function startLogger(program: LoggerProgram, { id, namespace, folder }: LoggedProcess): Promise<Logger> {
  const pipes = [openPipe(), openPipe(), openPipe()] as const
  const [output, error, ready] = pipes
  let child: ChildProcess
  try {
    child = spawn(program.path, program.args, {
      cwd: folder,
      detached: true,
      env: { CONTAINER_ID: id, CONTAINER_NAMESPACE: namespace },
      stdio: ['ignore', 'ignore', 'ignore', output.read, error.read, ready.write],
    })
  } catch (cause) {
    for (const fd of pipes.flatMap(({ read, write }) => [read, write])) closeSync(fd)
    throw failure(program, cause) // too long a list of arguments
  }
  const started = child.pid === undefined ? undefined : identify(child.pid)
  const failed = new Promise<never>((_, reject) => child.on('error', reject))
  for (const fd of [output.read, error.read, ready.write]) closeSync(fd)
  const logger = {
    ...{ output: output.write, error: error.write },
    [Symbol.dispose]() {
      for (const fd of [output.write, error.write]) closeSync(fd)
    },
  }
  try {
    const said = await Promise.race([readToEnd(ready.read), failed])
    if (said === undefined) throw new Error('it does not get ready')
    if (program.speaks && said === 0) throw new Error('it ended before it was ready')
    if (started === undefined) throw new Error('it has no process')
    child.unref()
    return { ...logger, process: started }
  } catch (cause) {
    logger[Symbol.dispose]()
    if (started !== undefined) sendSignal(started, SIGKILL)
    throw failure(program, cause)
  }
}

function failure({ path }: LoggerProgram, cause: unknown): Fault {
  return new Fault('unknown', `failed to start the logger "${path}": ${reasonOf(cause)}: unknown`, { cause })
}

/** In the system's words, as containerd says it. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown'
  return 'errno' in error && typeof error.errno === 'number' ? getSystemErrorMessage(error.errno) : error.message
}

/** Ends a logger whose processes have ended: it gets a moment to read the rest, SIGTERM, and SIGKILL after 12 s. */
export async function stopLogger(process: ProcessId): Promise<void> {
  if (await endsWithin(process, FINISH_MS)) return
  sendSignal(process, SIGTERM)
  if (!(await endsWithin(process, TERM_MS))) sendSignal(process, SIGKILL)
}

async function endsWithin(process: ProcessId, ms: number): Promise<boolean> {
  const deadline = performance.now() + ms
  while (isAlive(process)) {
    if (performance.now() > deadline) return false
    await sleep(STEP_MS)
  }
  return true
}

/** How many bytes came until the end, or undefined when there was none in time. Closes the descriptor. */
function readToEnd(fd: number): Promise<number | undefined> {
  return new Promise((resolve) => {
    const socket = new Socket({ fd, readable: true, writable: false })
    let count = 0
    const done = (result: number | undefined): void => {
      clearTimeout(timer)
      socket.destroy()
      resolve(result)
    }
    const timer = setTimeout(() => done(undefined), READY_MS)
    socket.on('data', (chunk: Buffer) => {
      count += chunk.length
    })
    socket.on('end', () => done(count))
    socket.on('error', () => done(count))
  })
}
