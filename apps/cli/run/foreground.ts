import { constants } from 'node:os'
import type { Exit, Process } from '@gantry/client/tasks'
import { followSize, Left, openRawMode, type Streams } from './terminal.ts'

const FORWARDED = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const
const PATIENCE = 3 // a process that ignores that many requests is left to itself
const KILL_MS = 5000
const GRACE_MS = 10_000 // between SIGTERM and SIGKILL, as `gantry stop` has it
const ONE_SIGNAL_MS = 200 // npx passes a Ctrl-C on that the terminal has sent us already
const NO_READER = 141 // what a shell says of a program that SIGPIPE ended

/**
 * Starts a process and stays with it until it ends: keys, window size and signals go to it. One whose output nobody reads
 * any more is ended, unless it may be attached to again.
 *
 * @param onStarted called once it runs
 * @throws {Left} when the user leaves it: by keys, by the third SIGINT or SIGTERM that did not end it, with the terminal
 */
export function runInForeground(target: Process, streams: Streams, onStarted: () => void): Promise<Exit> {
  return stayWith(target, streams, async (_resize, abandoned) => {
    await target.start(abandoned)
    onStarted()
  })
}

/**
 * The same for a process that runs already.
 *
 * @param begin is called when signals and keys reach it; only the third request abandons what it does: who leaves by keys may
 *   have seen the process run before we were told
 */
export async function stayWith(
  target: Process,
  streams: Streams,
  begin: (resize: (more: number) => Promise<void>, abandoned: AbortSignal) => Promise<void>,
): Promise<Exit> {
  const { left } = streams
  using _raw = openRawMode(streams)
  using size = followSize(target, streams)
  const exited = target.wait(left.signal)
  exited.catch(() => undefined) // counts once the process runs
  await size.now()
  const abandoned = new AbortController()
  using _signals = forwardSignals(target, streams, abandoned)
  using _reader = watchReader(target, streams)
  await begin(size.now, abandoned.signal)
  await size.now()
  try {
    return await exited
  } catch (error) {
    if (!left.signal.aborted) throw error
    target.leave()
    throw left.signal.reason
  }
}

function forwardSignals(target: Process, { left, stays, proxies }: Streams, abandoned: AbortController): Disposable {
  let requests = 0
  let last = Number.NEGATIVE_INFINITY
  const forward = (name: NodeJS.Signals): void => {
    const now = performance.now()
    if ((name === 'SIGINT' || name === 'SIGTERM') && now - last > ONE_SIGNAL_MS) requests++
    last = now
    if (!proxies || (stays && name === 'SIGHUP'))
      left.abort(new Left('Stopped waiting: it goes on', 128 + constants.signals[name]))
    else if (requests >= PATIENCE) {
      left.abort(new Left('Stopped waiting: the process goes on', 128 + constants.signals.SIGINT))
      abandoned.abort()
    } else send(target, name)
  }
  for (const name of FORWARDED) process.on(name, forward)
  return {
    [Symbol.dispose]() {
      for (const name of FORWARDED) process.off(name, forward)
    },
  }
}

/** On a host the next write to a broken pipe would end it. Here its output goes to the FIFO of a monitor, which never breaks. */
function watchReader(target: Process, { stays, left, context: { stdout } }: Streams): Disposable {
  let late: NodeJS.Timeout | undefined
  const end = (): void => {
    if (stays) left.abort(new Left('Stopped reading: it goes on', NO_READER))
    else {
      send(target, 'SIGTERM')
      late = setTimeout(() => send(target, 'SIGKILL'), GRACE_MS)
    }
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
