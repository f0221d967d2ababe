import type { StdioOptions } from '@gantry/client/stdio'
import type { Process } from '@gantry/client/tasks'
import { Fault } from '@gantry/model/fault'
import type { Context } from '../context.ts'
import { createGate, type Gate } from './gate.ts'

const RESIZE_MS = 5000

/** How a process is joined to our own input and output. */
export interface Attachment {
  readonly tty: boolean
  readonly interactive: boolean
}

/** The streams of a process in the foreground, and the gate before its stderr. */
export interface Streams {
  readonly stdio: StdioOptions
  readonly gate: Gate
}

/**
 * Our own streams for a process. Without -i it reads nothing.
 *
 * @throws {Fault} `invalid-argument` when a terminal's input is wanted and there is no terminal
 */
export function streamsOf({ tty, interactive }: Attachment, context: Context): Streams {
  if (tty && interactive && !context.stdin.isTTY)
    throw new Fault('invalid-argument', 'Cannot use -t with -i: the input is not a terminal; leave out one of them')
  const gate = createGate(context.stderr)
  const stdio = {
    stdout: context.stdout,
    ...(interactive ? { stdin: context.stdin } : {}),
    ...(tty ? {} : { stderr: gate.stream }),
  }
  return { stdio, gate }
}

/** Hands keys over as they are typed, also Ctrl-C; disposing it gives the terminal back as it was. */
export function openRawMode({ tty, interactive }: Attachment, { stdin }: Context): Disposable {
  if (!tty || !interactive || !stdin.isTTY) return { [Symbol.dispose]: () => undefined }
  stdin.setRawMode(true)
  return { [Symbol.dispose]: () => void stdin.setRawMode(false) }
}

/** Keeps the terminal of the process as large as ours. */
export function followSize(
  target: Process,
  { tty }: Attachment,
  { stdout }: Context,
): Disposable & { now(): Promise<void> } {
  const now = async (): Promise<void> => {
    if (!tty || !stdout.isTTY || stdout.columns === 0) return // a terminal that does not say, says 0
    const size = { columns: stdout.columns, rows: stdout.rows }
    await target.resize(size, AbortSignal.timeout(RESIZE_MS)).catch(() => undefined) // gone, or not there yet
  }
  const onResize = (): void => void now()
  stdout.on('resize', onResize)
  return { now, [Symbol.dispose]: () => void stdout.off('resize', onResize) }
}
