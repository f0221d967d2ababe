import { isFault } from '@gantry/model/fault'
import { CommanderError } from 'commander'
import type { Context } from './context.ts'
import { printable } from './text.ts'

const FAILED = 1
const USAGE = 2
const RUN_USAGE = 125 // Docker's: what a container ends with is not mistaken for a slip of the command line
const INTERRUPTED = 130
const NOT_READ = 141 // what a shell says of a program that SIGPIPE ended

/** Ends the command line with an exit code of its own. */
export class Exit extends Error {
  override readonly name = 'Exit'
  readonly code: number

  constructor(code: number, cause: unknown) {
    super(messageOf(cause), { cause })
    this.code = code
  }
}

type Reporting = Pick<Context, 'env'> & { readonly stderr: { write(text: string): unknown } }

/**
 * Tells on stderr, in one line, what went wrong and what may be done. Returns the exit code. `GANTRY_DEBUG=1` adds the stack.
 *
 * @param name of the command
 */
export function report(error: unknown, { stderr, env }: Reporting, name?: string): number {
  if (error instanceof CommanderError && error.exitCode === 0) return 0
  if (error instanceof CommanderError) return name === 'run' ? RUN_USAGE : USAGE // it has told already
  const cause = error instanceof Exit ? error.cause : error
  if (isInterruption(cause)) {
    stderr.write('gantry: interrupted\n')
    return INTERRUPTED
  }
  stderr.write(`gantry: ${printable(decapitalize(messageOf(cause)))}${hintOf(cause)}\n`)
  if (env.GANTRY_DEBUG && cause instanceof Error)
    stderr.write(`${(cause.stack ?? '').split('\n').map(printable).join('\n')}\n`)
  return error instanceof Exit ? error.code : FAILED
}

/**
 * Standard output failed: a reader that has seen enough, such as `head`, is nothing to talk about, a full disk is. Returns the
 * exit code; that of a process in the foreground stays ours.
 */
export function reportOutput(
  error: Error,
  { stderr, exitCode }: Pick<NodeJS.Process, 'exitCode'> & Pick<Reporting, 'stderr'>,
): number {
  if ('code' in error && error.code === 'EPIPE') return Number(exitCode ?? NOT_READ)
  stderr.write(`gantry: cannot write the output: ${printable(error.message)}\n`)
  return Number(exitCode) || FAILED
}

/** Nothing but a signal to us, or an output that takes nothing more, cancels what a command does. */
export function isInterruption(error: unknown): boolean {
  return isFault(error, 'cancelled') || (error instanceof Error && error.name === 'AbortError')
}

function hintOf(error: unknown): string {
  if (isFault(error, 'unimplemented')) return ' (this version of the node does not know how)'
  const noNode = isFault(error, 'unavailable') && error.message.startsWith('Cannot reach "')
  return noNode ? ' (start a node with `gantry up`, or name its socket with --address)' : ''
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** A sentence goes on behind "gantry: "; an acronym stays as it is. */
function decapitalize(text: string): string {
  return /^[A-Z][a-z]/.test(text) ? text.charAt(0).toLowerCase() + text.slice(1) : text
}
