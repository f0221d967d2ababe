import { spawn } from 'node:child_process'

/** How a program ended, and the end of what it wrote. */
export interface Ended {
  /** its exit code, or the signal that killed it */
  readonly code: number | string
  readonly output: string
  readonly errors: string
}

export interface ChildOptions {
  /** the whole environment: nothing of our own is passed on */
  readonly env: Readonly<Record<string, string>>
  /** what it reads */
  readonly input: string
  readonly cwd?: string
  /** the last bytes of its output and of its errors that are kept, each */
  readonly maxBytes: number
  /** killed after this many ms; never unless told */
  readonly timeoutMs?: number
}

const REST_MS = 500 // how long after its end what it left behind may keep its output open

/**
 * Runs a program to its end. What it has started and left (a hook, a plugin's plugin) may keep its output open for ever: nobody
 * waits for that. @throws what the system says when it cannot be started
 */
export function runToEnd(
  program: string,
  args: readonly string[],
  { env, input, cwd, maxBytes, timeoutMs }: ChildOptions,
): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { env: { ...env }, cwd, timeout: timeoutMs, killSignal: 'SIGKILL' })
    const output = keepEnd(child.stdout, maxBytes)
    const errors = keepEnd(child.stderr, maxBytes)
    child.on('error', reject)
    const done = (code: number | null, signal: string | null): void => {
      resolve({ code: code ?? signal ?? 'unknown', output: output(), errors: errors() })
      child.stdout.destroy()
      child.stderr.destroy()
    }
    child.on('close', (...end) => {
      clearTimeout(rest)
      done(...end)
    })
    let rest: NodeJS.Timeout | undefined
    child.on('exit', (...end) => {
      rest = setTimeout(() => setImmediate(done, ...end), REST_MS) // what is there already is read before
    })
    child.stdin.on('error', () => undefined) // it ended without reading: its exit code tells more
    child.stdin.end(input)
  })
}

function keepEnd(stream: NodeJS.ReadableStream, maxBytes: number): () => string {
  let text = ''
  stream.on('data', (chunk: Buffer) => {
    text = (text + chunk.toString()).slice(-maxBytes)
  })
  return () => text
}
