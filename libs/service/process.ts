import { parseArgs } from 'node:util'
import { Fault, isFault } from '@gantry/model/fault'
import { currentScope } from '@gantry/rpc/scope'
import { type Logger, pino } from 'pino'

const STOP_MS = 15_000 // how long an orderly stop may take before the process ends anyway

/** What the command line of every process may say. */
export interface Options {
  readonly config?: string
  readonly root?: string
  readonly state?: string
  readonly nats?: string
  readonly logLevel?: string
}

export interface Process {
  readonly log: Logger
  /** Aborted by the first SIGTERM or SIGINT. */
  readonly stop: AbortSignal
  readonly options: Options
}

/**
 * The first call of every `main.ts`: reads the command line, starts the log (JSON lines on stdout) and arranges the end.
 * A second signal, or a stop that takes longer than 15 s, ends the process at once. What nobody catches is logged and
 * ends the process with code 1: a fault as one line on stderr, anything else as a bug with its stack.
 *
 * @param name the app, as in `gantry-<name>`
 * @param argv the arguments behind the script: `process.argv.slice(2)`
 */
export async function startProcess(name: string, argv: readonly string[]): Promise<Process> {
  process.once('uncaughtException', (error) => {
    process.stderr.write(`gantry-${name}: ${error.message}\n`)
    process.exit(1)
  })
  const options = parseOptions(argv)
  const log = pino({ name: `gantry-${name}`, level: parseLevel(options.logLevel ?? 'info'), mixin: scopeFields })
  process.removeAllListeners('uncaughtException')
  process.on('uncaughtException', (error) => die(name, log, error))
  process.on('unhandledRejection', (error) => die(name, log, error))
  return { log, stop: stopSignal(log), options }
}

/** Resolves when `stop` is aborted. */
export function stopped(stop: AbortSignal): Promise<void> {
  if (stop.aborted) return Promise.resolve()
  return new Promise((resolve) => stop.addEventListener('abort', () => resolve(), { once: true }))
}

/** @throws {Fault} `invalid-argument` for a flag that does not exist or lacks its value */
export function parseOptions(argv: readonly string[]): Options {
  const text = { type: 'string' } as const
  try {
    const { values } = parseArgs({
      args: [...argv],
      options: { config: text, root: text, state: text, nats: text, 'log-level': text },
    })
    const { 'log-level': logLevel, ...rest } = values
    return logLevel === undefined ? rest : { ...rest, logLevel }
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new Fault('invalid-argument', `Cannot read the command line: ${reason}`, { cause: error })
  }
}

/** Says of every line which call it belongs to, and which trace that is part of. */
function scopeFields(): object {
  const scope = currentScope()
  if (scope === undefined) return {}
  return { request: scope.requestId, ...(scope.trace && { trace: scope.trace.traceId }) }
}

function parseLevel(level: string): string {
  if (level in pino.levels.values || level === 'silent') return level
  throw new Fault(
    'invalid-argument',
    `Cannot log at level "${level}": choose ${Object.keys(pino.levels.values).join(', ')} or silent`,
  )
}

function stopSignal(log: Logger): AbortSignal {
  const stop = new AbortController()
  for (const name of ['SIGTERM', 'SIGINT'] as const)
    process.on(name, () => {
      if (stop.signal.aborted) process.exit(1)
      log.info({ signal: name }, 'Stopping')
      stop.abort()
      setTimeout(() => {
        log.error(`Stopping took longer than ${STOP_MS / 1000} s: ending now`)
        process.exit(1)
      }, STOP_MS).unref()
    })
  return stop.signal
}

function die(name: string, log: Logger, error: unknown): never {
  if (isFault(error)) process.stderr.write(`gantry-${name}: ${error.message}\n`)
  else log.fatal({ err: error }, 'The process ends: nobody caught this')
  process.exit(1)
}
