/** Calls with one message each way from one process of a host to another, over the hop (`hop.ts`). */
import { Fault } from '@gantry/model/fault'
import { type Hop, hopAddress, openHop } from './hop.ts'
import { fromStatus } from './status.ts'

/** The hop to a process: dialled when it is first asked for, and again when it was lost. */
export interface Hopper extends Disposable {
  /** Undefined while it does not stand: the call then goes another way. */
  current(): Hop | undefined
}

/** @param address the socket of the process that speaks gRPC */
export function createHopper(address: string): Hopper {
  let hop: Hop | undefined
  let dialled: Disposable | undefined
  let closed = false
  return {
    current() {
      if (!closed)
        dialled ??= openHop(
          hopAddress(address),
          (opened) => {
            hop = opened
          },
          () => {
            hop = dialled = undefined
          },
        )
      return hop
    },
    [Symbol.dispose]() {
      closed = true
      dialled?.[Symbol.dispose]()
    },
  }
}

/**
 * Makes one call; the path is the header `:path`.
 * @throws {Fault} what the peer threw; `unavailable` when it went away before it had answered; `cancelled`
 */
export function leap(
  hop: Hop,
  headers: Iterable<readonly [string, string]>,
  message: Uint8Array,
  signal: AbortSignal,
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const cancel = hop.call(headers, message, (reply) => {
      signal.removeEventListener('abort', abort)
      if (!reply) reject(new Fault('unavailable', 'The service went away before it had answered: try again'))
      else if (reply.status.code === 0) resolve(reply.message)
      else reject(fromStatus(reply.status.code, reply.status.details))
    })
    const abort = (): void => {
      cancel()
      reject(new Fault('cancelled', 'The call was cancelled', { cause: signal.reason }))
    }
    signal.addEventListener('abort', abort, { once: true })
  })
}
