/** Calls with one message each way from one process of a host to another, over the hop (`hop-wire.ts`). */
import { Fault } from '@gantry/model/fault'
import { createUnframer } from './frame.ts'
import type { Hop } from './hop-client.ts'
import { fromStatus } from './status.ts'

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
    const answer = createUnframer()
    let last: Buffer | undefined
    const take = (bytes: Buffer): void => {
      last = answer.push(bytes)[0] ?? last
    }
    const over = (failure: Fault | undefined): void => {
      signal.removeEventListener('abort', abort)
      if (failure || !last) reject(failure ?? new Fault('internal', 'The call was answered without a message'))
      else resolve(last)
    }
    const gone = (): void => over(new Fault('unavailable', 'The service went away before it had answered: try again'))
    const call = hop.open(headers, message, {
      data(piece, taken) {
        take(Buffer.from(piece))
        taken()
      },
      room: () => undefined,
      reply({ status, framed }) {
        if (framed.length > 0) take(framed)
        over(status.code === 0 ? undefined : fromStatus(status.code, status.details))
      },
      lost: gone,
      unseen: gone,
    })
    const abort = (): void => {
      call.cancel()
      reject(new Fault('cancelled', 'The call was cancelled', { cause: signal.reason }))
    }
    signal.addEventListener('abort', abort, { once: true })
  })
}
