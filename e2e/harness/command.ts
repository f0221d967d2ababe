/** Runs one program to its end and returns everything a test may want to compare. */
import { spawn } from 'node:child_process'
import type { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'

export interface Outcome {
  /** the exit code; 128 + number when a signal ended it, as a shell says it; -1 when it had to be killed for taking too long */
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export interface CommandOptions {
  /** what the program reads; it then sees the end, when `hold` is over. Nothing (an empty /dev/null) unless given. */
  readonly stdin?: string | Uint8Array
  readonly hold?: Hold
  readonly timeoutMs?: number
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
}

/**
 * How long the input stays open: milliseconds, until something has happened, or until the program has written what is
 * waited for. (A `ctr` that sees the end of its input before it has made its task never tells anybody of it.)
 */
export type Hold = number | Promise<unknown> | ((stdout: string) => boolean)

const TIMEOUT_MS = 60_000
const SIGNALS: Readonly<Record<string, number>> = { SIGHUP: 1, SIGINT: 2, SIGKILL: 9, SIGTERM: 15 }

export async function run(argv: readonly string[], options: CommandOptions = {}): Promise<Outcome> {
  const [program = '', ...args] = argv
  const child = spawn(program, args, {
    stdio: [options.stdin === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    env: { ...process.env, ...options.env },
    cwd: options.cwd,
    detached: true, // a process group of its own, so that a timeout ends its children too
  })
  const ended = new Promise<number>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => resolve(code ?? 128 + (SIGNALS[signal ?? ''] ?? 0)))
  })
  const stdout = collect(child.stdout)
  const stderr = collect(child.stderr)
  let late = false
  const timer = setTimeout(() => {
    late = true
    if (child.pid !== undefined) killGroup(child.pid)
  }, options.timeoutMs ?? TIMEOUT_MS)
  if (child.stdin) {
    child.stdin.on('error', () => {}) // EPIPE: the program ended without reading everything
    child.stdin.write(options.stdin ?? '')
    const end = (): void => void child.stdin?.end()
    const { hold = 0 } = options
    if (typeof hold === 'function') child.stdout?.on('data', () => hold(stdout.text()) && end())
    else void (typeof hold === 'number' ? sleep(hold) : hold).then(end)
  }
  const code = await ended
  clearTimeout(timer)
  return {
    code: late ? -1 : code,
    stdout: stdout.text(),
    stderr: stderr.text() + (late ? '\n(killed: it took too long)' : ''),
  }
}

/**
 * As `run`, on a terminal of its own (33 rows, 101 columns): util-linux `script` gives it one and passes the exit code on.
 * Everything it writes arrives on stdout; how many carriage returns end a line depends on the two terminals, so they are dropped.
 */
export async function runOnTerminal(argv: readonly string[], options: CommandOptions = {}): Promise<Outcome> {
  const line = argv.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ')
  const onTerminal = ['script', '-qec', `stty rows 33 cols 101; exec ${line}`, '/dev/null']
  const outcome = await run(onTerminal, { ...options, stdin: options.stdin ?? '', hold: options.hold ?? 2000 })
  return { ...outcome, stdout: outcome.stdout.replaceAll(/\r+\n/g, '\n') }
}

/** Runs a program on our own standard streams and returns its exit code. */
export async function inherit(argv: readonly string[], { env, cwd }: CommandOptions = {}): Promise<number> {
  const [program = '', ...args] = argv
  const child = spawn(program, args, { stdio: 'inherit', env: { ...process.env, ...env }, cwd })
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code) => resolve(code ?? -1))
  })
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // already gone
  }
}

function collect(stream: Readable | null): { text(): string } {
  const chunks: Buffer[] = []
  stream?.on('data', (chunk: Buffer) => chunks.push(chunk))
  return { text: () => Buffer.concat(chunks).toString('utf8') }
}
