import { setTimeout as sleep } from 'node:timers/promises'
import { Status } from '@gantry/api/gantry/status/v1/status_pb'
import { clientOf, connect } from '@gantry/rpc/client'

const LOOK_MS = 3000
const CALL_MS = 3000
const PATIENCE = 5 // looks in a row
const MAX_PATIENCE = 100 // where to start it again did not help

export interface Watched {
  /** The socket of a service that writes to the log. */
  readonly socket: string
  isListening(): Promise<boolean>
  restart(): void
}

/**
 * Starts nats-server again when it listens and its log answers nobody: 2.9 hangs for ever when its disk was full once, and does
 * not end when it is told to. Until `signal` is aborted.
 */
export async function watchLog(
  { socket, isListening, restart }: Watched,
  signal: AbortSignal,
  lookMs = LOOK_MS,
): Promise<void> {
  await using channel = connect(socket)
  const status = clientOf(Status, channel)
  let away = 0
  let patience = PATIENCE
  const options = { signal, waitMs: CALL_MS, timeoutMs: CALL_MS }
  while (!signal.aborted) {
    await sleep(lookMs, undefined, { signal }).catch(() => undefined)
    const reply = await status.get({}, options).catch(() => undefined)
    if (reply?.bus) patience = PATIENCE
    away = reply && !reply.bus && (await isListening()) ? away + 1 : 0
    if (away < patience || signal.aborted) continue
    away = 0
    patience = Math.min(2 * patience, MAX_PATIENCE)
    restart()
  }
}
