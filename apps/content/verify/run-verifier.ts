import { type ChildProcess, spawn } from 'node:child_process'
import type { Readable } from 'node:stream'

const MAX_OUTPUT = 32 * 1024 // bytes kept of each output; the rest is read and dropped, so that nobody blocks
const DRAIN_MS = 200 // for what is still in the pipes once the process is gone

/** How a verifier ended, and what it said. */
export type Verdict = { readonly output: string; readonly errors: string } & (
  | { readonly end: 'exit'; readonly code: number }
  | { readonly end: 'killed'; readonly signal: string }
  | { readonly end: 'timeout' }
  | { readonly end: 'failed'; readonly why: string }
)

export interface Running {
  readonly path: string
  readonly args: readonly string[]
  readonly input: string
  readonly timeoutMs: number
  readonly env: Readonly<Record<string, string | undefined>>
}

type End = Verdict extends infer V ? (V extends Verdict ? Omit<V, 'output' | 'errors'> : never) : never

/**
 * Runs a program in a process group of its own, with nothing of ours but three pipes and the given environment. Whatever
 * of the group is left when the program has ended, or its time is over, is killed.
 *
 * @throws the reason of `signal` when that is aborted
 */
export async function runVerifier({ path, args, input, timeoutMs, env }: Running, signal: AbortSignal) {
  signal.throwIfAborted()
  const child = spawn(path, args, { cwd: '/', env: { ...env }, detached: true, stdio: ['pipe', 'pipe', 'pipe'] })
  const [output, errors] = [collect(child.stdout), collect(child.stderr)]
  child.stdin.on('error', () => undefined) // who knows without reading may say so
  child.stdin.end(input)

  const { promise, resolve } = Promise.withResolvers<End>()
  const closed = new Promise<void>((done) => child.once('close', () => done()))
  child.once('error', (error) => resolve({ end: 'failed', why: error.message }))
  child.once('exit', (code, by) =>
    resolve(code === null ? { end: 'killed', signal: String(by) } : { end: 'exit', code }),
  )
  const timer = setTimeout(() => resolve({ end: 'timeout' }), timeoutMs)
  const abort = (): void => resolve({ end: 'failed', why: 'aborted' })
  signal.addEventListener('abort', abort)
  try {
    const end = await promise
    killGroup(child)
    await Promise.race([closed, new Promise((done) => setTimeout(done, DRAIN_MS).unref())])
    signal.throwIfAborted()
    return { ...end, output: output(), errors: errors() } satisfies Verdict
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', abort)
    for (const stream of [child.stdin, child.stdout, child.stderr]) stream.destroy()
  }
}

/** The process and all that it left in its group. */
function killGroup({ pid }: ChildProcess): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, 'SIGKILL')
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error
  }
}

function collect(stream: Readable): () => string {
  const chunks: Buffer[] = []
  let size = 0
  stream.on('data', (chunk: Buffer) => {
    const kept = chunk.subarray(0, MAX_OUTPUT - size)
    size += kept.length
    if (kept.length > 0) chunks.push(kept)
  })
  stream.on('error', () => undefined)
  return () => Buffer.concat(chunks).toString()
}
