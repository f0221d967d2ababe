import type { Readable } from 'node:stream'
import type { StdioOptions } from '@gantry/client/stdio'
import type { Process } from '@gantry/client/tasks'
import { Fault } from '@gantry/model/fault'
import type { Context } from '../context.ts'
import { DEFAULT_DETACH_KEYS, parseDetachKeys, watchKeys } from './detach-keys.ts'
import { createGate, type Gate } from './gate.ts'

const RESIZE_MS = 5000

/** How a process is joined to our own input and output. */
export interface Attachment {
  readonly tty: boolean
  readonly interactive: boolean
  /** Keys that leave it, on a terminal; Docker's unless told. */
  readonly detachKeys?: Uint8Array | undefined
  /** What becomes of it when our terminal or the reader of our output goes: it ends, unless it may be attached to again. */
  readonly stays?: boolean
  /** It gets the signals that we get, unless told. */
  readonly proxies?: boolean
}

/** The streams of a process in the foreground, and the gate before its stderr. */
export interface Streams extends Required<Pick<Attachment, 'tty' | 'interactive' | 'stays' | 'proxies'>> {
  readonly context: Context
  readonly stdio: StdioOptions
  readonly gate: Gate
  /** Aborted, with an error that says so, when the user leaves the process to itself. */
  readonly left: AbortController
}

/** The user does not stay with a process that goes on. */
export class Left extends Error {
  override readonly name = 'Left'
  /** The exit code for it. */
  readonly code: number

  constructor(message: string, code: number) {
    super(message)
    this.code = code
  }
}

/**
 * Our own streams for a process. Without -i it reads nothing.
 *
 * @throws {Fault} `invalid-argument` when a terminal's input is wanted and there is no terminal
 */
export function streamsOf(attachment: Attachment, context: Context): Streams {
  const { tty, interactive, stays = false, proxies = true } = attachment
  if (tty && interactive && !context.stdin.isTTY)
    throw new Fault('invalid-argument', 'Cannot use -t with -i: the input is not a terminal; leave out one of them')
  const gate = createGate(context.stderr)
  const left = new AbortController()
  const keys = (): Readable => {
    const bytes = attachment.detachKeys ?? parseDetachKeys(DEFAULT_DETACH_KEYS)
    return context.stdin.pipe(watchKeys(bytes, () => left.abort(new Left('Detached: it goes on', 0))))
  }
  const stdio = {
    stdout: context.stdout,
    ...(interactive ? { stdin: tty ? keys() : context.stdin } : {}),
    ...(tty ? {} : { stderr: gate.stream }),
  }
  return { ...{ context, stdio, gate, left }, ...{ tty, interactive, stays, proxies } }
}

/** Hands keys over as they are typed, also Ctrl-C; disposing it gives the terminal back as it was. */
export function openRawMode({ tty, interactive, context: { stdin } }: Streams): Disposable {
  if (!tty || !interactive || !stdin.isTTY) return { [Symbol.dispose]: () => undefined }
  stdin.setRawMode(true)
  return { [Symbol.dispose]: () => void stdin.setRawMode(false) }
}

/** Keeps the terminal of the process as large as ours. */
export function followSize(
  target: Process,
  { tty, context: { stdout } }: Streams,
): Disposable & { now(more?: number): Promise<void> } {
  const now = async (more = 0): Promise<void> => {
    if (!tty || !stdout.isTTY || stdout.columns === 0) return // a terminal that does not say, says 0
    const size = { columns: stdout.columns, rows: stdout.rows + more }
    await target.resize(size, AbortSignal.timeout(RESIZE_MS)).catch(() => undefined) // gone, or not there yet
  }
  const onResize = (): void => void now()
  stdout.on('resize', onResize)
  return { now, [Symbol.dispose]: () => void stdout.off('resize', onResize) }
}
