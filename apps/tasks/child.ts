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

/** Runs a program to its end. @throws what the system says when it cannot be started */
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
    child.on('close', (code, signal) =>
      resolve({ code: code ?? signal ?? 'unknown', output: output(), errors: errors() }),
    )
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
