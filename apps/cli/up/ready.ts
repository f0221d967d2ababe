import { connect as dial } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { Health, HealthCheckResponse_ServingStatus as Serving } from '@gantry/api/grpc/health/v1/health_pb'
import { clientOf, connect } from '@gantry/rpc/client'

const POLL_MS = 30
const CHECK_MS = 1000

/** Waits until the process behind a socket says that it serves. */
export async function whenServing(socket: string, signal: AbortSignal): Promise<void> {
  await using channel = connect(socket)
  const health = clientOf(Health, channel)
  while (!signal.aborted) {
    const reply = await health.check({}, { signal, waitMs: CHECK_MS, timeoutMs: CHECK_MS }).catch(() => undefined)
    if (reply?.status === Serving.SERVING) return
    await sleep(POLL_MS)
  }
}

/** Waits until somebody listens on a port of this machine; the port may change meanwhile. */
export async function whenListening(port: () => number, signal: AbortSignal): Promise<void> {
  while (!signal.aborted && !(await isListening(port()))) await sleep(POLL_MS)
}

/** Does somebody listen on a port of this machine? On 0 nobody does. */
export async function isListening(port: number): Promise<boolean> {
  if (port === 0) return false
  return new Promise((resolve) => {
    const socket = dial({ host: '127.0.0.1', port })
    const end = (result: boolean): void => {
      socket.destroy()
      resolve(result)
    }
    socket.once('connect', () => end(true))
    socket.once('error', () => end(false))
  })
}
