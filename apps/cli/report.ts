import { isFault } from '@gantry/model/fault'
import { CommanderError } from 'commander'
import type { Context } from './context.ts'
import { printable } from './text.ts'

const FAILED = 1
const USAGE = 2
const INTERRUPTED = 130

/** Ends the command line with an exit code of its own. */
export class Exit extends Error {
  override readonly name = 'Exit'
  readonly code: number

  constructor(code: number, cause: unknown) {
    super(messageOf(cause), { cause })
    this.code = code
  }
}

/** Tells on stderr, in one line, what went wrong and what may be done. Returns the exit code. `GANTRY_DEBUG=1` adds the stack. */
export function report(
  error: unknown,
  { stderr, env }: Pick<Context, 'env'> & { stderr: { write(text: string): unknown } },
): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : USAGE // it has told already
  const cause = error instanceof Exit ? error.cause : error
  if (isInterruption(cause)) {
    stderr.write('gantry: interrupted\n')
    return INTERRUPTED
  }
  stderr.write(`gantry: ${printable(decapitalize(messageOf(cause)))}${hintOf(cause)}\n`)
  if (env.GANTRY_DEBUG && cause instanceof Error) stderr.write(`${cause.stack}\n`)
  return error instanceof Exit ? error.code : FAILED
}

/** Nothing but a signal to us cancels what a command does. */
function isInterruption(error: unknown): boolean {
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
