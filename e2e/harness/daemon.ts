/** A program that stays: started with its output kept, waited for, and ended by its pid. */
import { spawn } from 'node:child_process'
import { createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

export interface Daemon extends AsyncDisposable {
  readonly pid: number
  /** everything it wrote, standard output and error together */
  log(): string
  running(): boolean
  /** Sends the signal and waits for the end. @throws when it is still there after `withinMs` (it is killed then) */
  stop(signal?: NodeJS.Signals, withinMs?: number): Promise<number>
}

export function startDaemon(argv: readonly string[], env: Readonly<Record<string, string>> = {}): Daemon {
  const [program = '', ...args] = argv
  const child = spawn(program, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
    detached: true,
  })
  let log = ''
  let code: number | undefined
  const keep = (chunk: Buffer | Error) => {
    log += String(chunk)
  }
  child.stdout.on('data', keep)
  child.stderr.on('data', keep)
  child.on('error', keep)
  // 'exit', not 'close': what outlives the daemon (a shim, a monitor) may hold its output open
  const exited = new Promise<number>((resolve) => {
    child.once('exit', (status, signal) => {
      code = status ?? (signal ? 128 : 0)
      resolve(code)
    })
  })

  async function stop(signal: NodeJS.Signals = 'SIGTERM', withinMs = 20_000): Promise<number> {
    if (code !== undefined || child.pid === undefined) return code ?? -1
    child.kill(signal)
    const late = sleep(withinMs, 'late' as const, { ref: false })
    const result = await Promise.race([exited, late])
    if (result !== 'late') return result
    child.kill('SIGKILL')
    throw new Error(`${program} did not end within ${withinMs} ms after ${signal}; its log ends:\n${log.slice(-4000)}`)
  }

  return {
    pid: child.pid ?? -1,
    log: () => log,
    running: () => code === undefined,
    stop,
    async [Symbol.asyncDispose]() {
      await stop()
    },
  }
}

/** Calls `check` every 50 ms until it says yes. @throws after `withinMs`, with the last error it met and what `context` tells */
export async function until(
  what: string,
  check: () => boolean | Promise<boolean>,
  { withinMs = 30_000, context = () => '' }: { withinMs?: number; context?: () => string } = {},
): Promise<void> {
  const end = Date.now() + withinMs
  let last: unknown
  while (Date.now() < end) {
    try {
      if (await check()) return
    } catch (error) {
      last = error
    }
    await sleep(50)
  }
  throw new Error(`Waited ${withinMs} ms in vain: ${what}${last ? ` (${String(last)})` : ''}\n${context()}`)
}

const PORTS = [20_000, 32_000] as const // below those that the kernel gives to connections: one of them may come first there

/** A loopback port nobody listens on right now. */
export async function freePort(): Promise<number> {
  const [from, to] = PORTS
  for (;;) {
    const port = from + Math.floor(Math.random() * (to - from))
    const server = createServer()
    const isFree = await new Promise<boolean>((resolve) =>
      server.once('error', () => resolve(false)).listen(port, '127.0.0.1', () => resolve(true)),
    )
    if (!isFree) continue
    await new Promise((resolve) => server.close(resolve))
    return port
  }
}
