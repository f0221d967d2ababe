import { spawn } from 'node:child_process'
import { Fault } from '@gantry/model/fault'

const HELPER = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/ // never a path
const TIMEOUT_MS = 15_000 // a key ring may have to ask its owner
const MAX_OUTPUT_BYTES = 64 * 1024

export interface HelperRun {
  /** What comes behind `docker-credential-`. */
  readonly name: string
  readonly action: 'get' | 'store' | 'erase'
  readonly input: string
  readonly env: Readonly<Record<string, string | undefined>>
  readonly timeoutMs?: number
}

/**
 * Runs a `docker-credential-*` program: one word as argument, the rest over its input and output. Nothing that it prints
 * is passed on in an error, since it may be a secret.
 *
 * @returns its output, undefined when `get` knows nothing of the server
 * @throws {Fault} `failed-precondition` naming the helper when it is not there, fails, talks without end or takes too long
 */
export async function runHelper(run: HelperRun, signal: AbortSignal): Promise<string | undefined> {
  const { name, action, input, env, timeoutMs = TIMEOUT_MS } = run
  const program = `docker-credential-${name}`
  if (!HELPER.test(name))
    throw new Fault(
      'failed-precondition',
      `Cannot use credential helper ${JSON.stringify(name.slice(0, 64))}: bad name`,
    )
  const failed = (why: string, cause?: unknown): Fault =>
    new Fault('failed-precondition', `Cannot ${action} credentials with ${program}: ${why}`, { cause })
  const child = spawn(program, [action], { env: { ...env }, stdio: ['pipe', 'pipe', 'ignore'], detached: true })
  const stop = (): void => {
    child.stdout.destroy() // a daemon that it left behind may hold the other end
    if (child.pid === undefined || child.exitCode !== null) return
    try {
      process.kill(-child.pid, 'SIGKILL') // with whatever it started
    } catch {
      child.kill('SIGKILL')
    }
  }
  const late = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)])
  late.addEventListener('abort', stop, { once: true })
  child.stdin.on('error', () => undefined) // one that does not read is judged by its exit
  child.stdin.end(input)
  try {
    const exited = new Promise<number | null>((resolve, reject) => {
      child.on('error', (error) => reject(failed('code' in error ? String(error.code) : 'it does not start', error)))
      child.on('close', (code) => resolve(code))
    })
    exited.catch(() => undefined)
    const chunks: Buffer[] = []
    let size = 0
    try {
      for await (const chunk of child.stdout) {
        size += chunk.length
        if (size > MAX_OUTPUT_BYTES) throw failed(`more than ${MAX_OUTPUT_BYTES} bytes`)
        chunks.push(chunk)
      }
    } catch (error) {
      if (!late.aborted) throw error
    }
    const code = await exited
    signal.throwIfAborted()
    if (late.aborted) throw failed(`no answer within ${timeoutMs / 1000} s`)
    const output = Buffer.concat(chunks).toString()
    if (code === 0) return output
    if (action !== 'store' && /credentials not found/i.test(output)) return undefined
    throw failed(`it ends with ${code ?? 'a signal'}`)
  } finally {
    late.removeEventListener('abort', stop)
    stop()
  }
}
