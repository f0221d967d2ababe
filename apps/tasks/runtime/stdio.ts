import { closeSync, constants, mkdirSync, openSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { setNonBlocking } from '@gantry/linux/process'
import { isSystemError } from '@gantry/linux/system'
import { Fault } from '@gantry/model/fault'

/** What we announce to clients as `log-uri-schemes`; the empty scheme is a FIFO too. */
export const LOG_URI_SCHEMES = ['fifo', 'binary', 'binary-v2', 'file'] as const

/** Where a process's input comes from and its output goes, as the client wrote it (behaviour facts, 9.4). */
export interface Stdio {
  readonly stdin: string
  readonly stdout: string
  readonly stderr: string
  readonly terminal: boolean
}

/** Descriptors opened for a process. Disposing closes ours; the process keeps its own. */
export interface OpenStdio extends Disposable {
  readonly input: number
  readonly output: number
  readonly error: number
  /** The write side of an input FIFO, which somebody must hold until CloseIO. */
  readonly inputHold: number | undefined
}

/** A program that takes a process's output; `logger.ts` has its protocol. */
export interface LoggerProgram {
  readonly path: string
  readonly args: readonly string[]
  /** It says that it is ready by a byte, not by closing the descriptor alone. */
  readonly speaks: boolean
}

/** Descriptors that take the place of what stdout and stderr name; they stay the caller's to close. */
export interface Sink {
  readonly output: number
  readonly error: number
}

type Target = Fifo | { readonly kind: 'file'; readonly path: string } | Logged
type Fifo = { readonly kind: 'null' } | { readonly kind: 'fifo'; readonly path: string }
type Logged = { readonly kind: 'logger'; readonly program: LoggerProgram }

/**
 * Refuses stdio that cannot be served, before anything is made for it.
 * @throws {Fault} `invalid-argument` for what is malformed or cannot be combined, `unknown` for a scheme nobody knows
 */
export function checkStdio(stdio: Stdio): Stdio {
  const { output } = targetsOf(stdio)
  if (stdio.terminal && output.kind === 'file')
    throw new Fault('invalid-argument', `Cannot write a terminal to "${stdio.stdout}": a file takes plain output only`)
  return stdio
}

/** The logger program that the output goes to, if that is what was asked for. */
export function loggerOf(stdio: Stdio): LoggerProgram | undefined {
  const { output } = targetsOf(stdio)
  return output.kind === 'logger' ? output.program : undefined
}

/**
 * Opens what a process without a terminal gets as its own.
 *
 * Output FIFOs are opened for reading too, so that a reader who went away kills nobody: the process blocks when the FIFO is
 * full and goes on when somebody reads again. The input FIFO is opened for reading alone, else its end would never come;
 * until CloseIO its write side is held by another process, not by us, for we may be restarted.
 * @throws {Fault} `failed-precondition` when a path cannot be opened
 */
export function openStdio(stdio: Stdio, sink?: Sink): OpenStdio {
  const targets = targetsOf(stdio)
  const opened: number[] = []
  const keep = (fd: number): number => {
    opened.push(fd)
    return fd
  }
  const close = (): void => {
    for (const fd of opened.splice(0)) closeSync(fd)
  }
  try {
    const input = keep(openInput(targets.input))
    const inputHold = targets.input.kind === 'fifo' ? keep(openHold(targets.input.path)) : undefined
    const output = sink?.output ?? keep(openOutput(targets.output))
    const error = sink?.error ?? keep(openOutput(targets.error))
    return { input, output, error, inputHold, [Symbol.dispose]: close }
  } catch (cause) {
    close()
    throw toFault(cause)
  }
}

/**
 * Opens what the copiers of a terminal get: both FIFOs for reading and writing, so that neither ever ends.
 * @throws {Fault} `failed-precondition` when a path cannot be opened
 */
export function openTerminalStdio(
  stdio: Stdio,
  sink?: Sink,
): Disposable & { readonly input: number | undefined; readonly output: number } {
  const { input, output } = targetsOf(stdio)
  const opened: number[] = []
  const open = (target: Target): number => {
    const fd = openOutput(target)
    opened.push(fd)
    return fd
  }
  const close = (): void => {
    for (const fd of opened.splice(0)) closeSync(fd)
  }
  try {
    return {
      output: sink?.output ?? open(output),
      input: input.kind === 'null' ? undefined : open(input),
      [Symbol.dispose]: close,
    }
  } catch (cause) {
    close()
    throw toFault(cause)
  }
}

/** Only the scheme of stdout says what is meant, for stderr too. */
function targetsOf({ stdin, stdout, stderr }: Stdio): {
  readonly input: Fifo
  readonly output: Target
  readonly error: Target
} {
  const output = parseTarget(stdout)
  const error = output.kind === 'file' || output.kind === 'logger' ? output : fifoAt(stderr)
  return { input: fifoAt(stdin), output, error }
}

function parseTarget(text: string): Target {
  const [, scheme, rest = ''] = /^([a-z][a-z0-9+.-]*):\/\/(.*)$/s.exec(text) ?? []
  if (scheme === undefined || scheme === 'fifo') return fifoAt(text)
  const [place = '', ...query] = rest.split('?')
  const path = (): string => absolute(decode(place, text), text)
  if (scheme === 'file') return { kind: 'file', path: path() }
  if (scheme === 'binary' || scheme === 'binary-v2')
    return { kind: 'logger', program: { path: path(), args: argsOf(query.join('?')), speaks: scheme === 'binary-v2' } }
  throw new Fault('unknown', `unknown STDIO scheme ${scheme}`)
}

/** Keys and their first values, one after the other: `?a=1&b=2` is `a 1 b 2`. */
function argsOf(query: string): string[] {
  const params = new URLSearchParams(query)
  const args = [...new Set(params.keys())].flatMap((key) => [key, params.get(key) ?? ''])
  if (args.every((arg) => !arg.includes('\0'))) return args
  throw new Fault('invalid-argument', 'Cannot use a logger for stdio: no argument of a program has a zero byte')
}

function decode(path: string, text: string): string {
  try {
    return decodeURIComponent(path)
  } catch {
    throw new Fault('invalid-argument', `Cannot use "${text}" for stdio: its path is malformed`)
  }
}

function fifoAt(text: string): Fifo {
  const path = text.startsWith('fifo://') ? text.slice('fifo://'.length) : text
  return path === '' ? { kind: 'null' } : { kind: 'fifo', path: absolute(path, text) }
}

function absolute(path: string, text: string): string {
  if (path.startsWith('/') && !path.includes('\0')) return path
  throw new Fault('invalid-argument', `Cannot use "${text}" for stdio: it is not an absolute path`)
}

function openInput(target: Fifo): number {
  if (target.kind === 'null') return openSync('/dev/null', 'r')
  const fd = openSync(target.path, constants.O_RDONLY | constants.O_NONBLOCK) // does not wait for a writer
  setNonBlocking(fd, false)
  return fd
}

function openHold(path: string): number {
  return openSync(path, constants.O_WRONLY | constants.O_NONBLOCK) // the read side is open, so this never fails
}

/** Does not wait for a reader, who may never come, when the file is a FIFO. */
const APPEND = constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND | constants.O_NONBLOCK

function openOutput(target: Target): number {
  if (target.kind === 'null') return openSync('/dev/null', 'r+')
  if (target.kind === 'logger') throw new Error('The output of a logged process needs a logger')
  if (target.kind === 'file') {
    mkdirSync(dirname(target.path), { recursive: true, mode: 0o755 })
    const fd = openSync(target.path, APPEND, 0o644)
    setNonBlocking(fd, false)
    return fd
  }
  const isFifo = statSync(target.path).isFIFO()
  return openSync(target.path, isFifo ? constants.O_RDWR : constants.O_WRONLY | constants.O_APPEND)
}

function toFault(cause: unknown): unknown {
  if (!isSystemError(cause)) return cause
  return new Fault('failed-precondition', `Cannot open the stdio: ${cause.message}`, { cause })
}
