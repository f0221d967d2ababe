import { constants } from 'node:os'
import type { Exit, Process } from '@gantry/client/tasks'
import type { Context } from '../context.ts'
import { type Attachment, followSize, openRawMode } from './terminal.ts'

const FORWARDED = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const
const PATIENCE = 3 // a process that ignores that many requests is left to itself
const KILL_MS = 5000
const GRACE_MS = 10_000 // between SIGTERM and SIGKILL, as `gantry stop` has it
const ONE_SIGNAL_MS = 200 // npx passes a Ctrl-C on that the terminal has sent us already

/** The user gave up waiting for a process that goes on. */
export class Abandoned extends Error {
  override readonly name = 'Abandoned'
}

/**
 * Starts a process and stays with it until it ends: keys, window size and signals go to it. One whose output nobody reads
 * any more is ended.
 *
 * @param onStarted called once it runs
 * @throws {Abandoned} after the third SIGINT or SIGTERM that did not end it
 */
export async function runInForeground(
  target: Process,
  attachment: Attachment,
  context: Context,
  onStarted: () => void,
): Promise<Exit> {
  const abandon = new AbortController()
  using _raw = openRawMode(attachment, context)
  using size = followSize(target, attachment, context)
  const exited = target.wait(abandon.signal)
  exited.catch(() => undefined) // counts once the process runs
  await size.now()
  using _signals = forwardSignals(target, abandon)
  using _reader = endWithoutReader(target, context)
  await target.start(abandon.signal)
  onStarted()
  await size.now()
  try {
    return await exited
  } catch (error) {
    if (abandon.signal.aborted) throw new Abandoned('Stopped waiting: the process goes on', { cause: error })
    throw error
  }
}

function forwardSignals(target: Process, abandon: AbortController): Disposable {
  let requests = 0
  let last = Number.NEGATIVE_INFINITY
  const forward = (name: NodeJS.Signals): void => {
    const now = performance.now()
    if ((name === 'SIGINT' || name === 'SIGTERM') && now - last > ONE_SIGNAL_MS) requests++
    last = now
    if (requests >= PATIENCE) abandon.abort()
    else send(target, name)
  }
  for (const name of FORWARDED) process.on(name, forward)
  return {
    [Symbol.dispose]() {
      for (const name of FORWARDED) process.off(name, forward)
    },
  }
}

/** On a host the next write to a broken pipe would end it. Here its output goes to the FIFO of a monitor, which never breaks. */
function endWithoutReader(target: Process, { stdout }: Context): Disposable {
  let late: NodeJS.Timeout | undefined
  const end = (): void => {
    send(target, 'SIGTERM')
    late = setTimeout(() => send(target, 'SIGKILL'), GRACE_MS)
  }
  stdout.once('error', end)
  return {
    [Symbol.dispose]() {
      stdout.off('error', end)
      clearTimeout(late)
    },
  }
}

/** It may have ended, or the node may be away: waiting tells. */
function send(target: Process, name: NodeJS.Signals): void {
  target.kill(constants.signals[name], {}, AbortSignal.timeout(KILL_MS)).catch(() => undefined)
}
