import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { nextDelayMs } from './backoff.ts'
import { readLines } from './lines.ts'

const STOP_MS = 5000 // from SIGTERM to SIGKILL
const LAST_WORDS_MS = 200 // for the output of a process that has ended; what it left behind may hold its pipes open

/** A process to keep running. */
export interface Part {
  readonly name: string
  /** Asked before each start, so that what the process needs can be made anew. */
  command(): Promise<readonly [file: string, ...args: string[]]>
}

/** How a process ended. */
export interface Ended {
  readonly how: string // 'signal SIGKILL', 'code 1', or why it could not be started
  readonly lastError: string | undefined // the last line it wrote on stderr
}

export interface Hooks {
  onLine(name: string, line: string): void
  onStart(name: string, pid: number): void
  /** It ended by itself and is started again after `delayMs`. */
  onCrash(name: string, ended: Ended, delayMs: number): void
}

export interface Supervised {
  readonly name: string
  /** Ends the process at once; it is started again as after a crash. */
  kill(): void
  /** Ends the process with SIGTERM, after 5 s with SIGKILL, and waits for its end. At once SIGKILL when `now` is aborted. */
  stop(now: AbortSignal): Promise<void>
}

/**
 * Keeps one process running until told to stop. It gets no input, no descriptors but its output, and a session of its
 * own, so that a Ctrl-C on the terminal reaches only us.
 */
export function supervise(part: Part, hooks: Hooks): Supervised {
  const stopping = new AbortController()
  let child: ChildProcess | undefined
  const running = keepRunning()

  async function keepRunning(): Promise<void> {
    let delay = 0
    while (!stopping.signal.aborted) {
      const started = performance.now()
      const ended = await runOnce().catch((error: unknown) => ({ how: String(error), lastError: undefined }))
      if (stopping.signal.aborted) return
      delay = nextDelayMs(delay, performance.now() - started)
      hooks.onCrash(part.name, ended, delay)
      await sleep(delay, undefined, { signal: stopping.signal }).catch(() => undefined)
    }
  }

  async function runOnce(): Promise<Ended> {
    const [file, ...args] = await part.command()
    if (stopping.signal.aborted) return { how: 'not started', lastError: undefined }
    let lastError: string | undefined
    const process = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'], detached: true, cwd: '/' })
    child = process
    readLines(process.stdout, (line) => hooks.onLine(part.name, line))
    readLines(process.stderr, (line) => {
      lastError = line
      hooks.onLine(part.name, line)
    })
    if (process.pid !== undefined) hooks.onStart(part.name, process.pid)
    const closed = once(process, 'close').catch(() => undefined)
    const how = await new Promise<string>((resolve) => {
      process.once('error', (error) => resolve(error.message))
      process.once('exit', (code, signal) => resolve(signal ? `signal ${signal}` : `code ${code}`))
    })
    await Promise.race([closed, sleep(LAST_WORDS_MS)])
    process.stdout.destroy()
    process.stderr.destroy()
    return { how, lastError }
  }

  return {
    name: part.name,
    kill: () => void child?.kill('SIGKILL'),
    async stop(now) {
      stopping.abort()
      const kill = (): void => void child?.kill('SIGKILL')
      child?.kill('SIGTERM')
      const timer = setTimeout(kill, STOP_MS)
      now.addEventListener('abort', kill, { once: true })
      if (now.aborted) kill()
      await running
      clearTimeout(timer)
      now.removeEventListener('abort', kill)
    },
  }
}
