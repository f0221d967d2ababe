import type { Digest } from '@gantry/model/digest'
import { abortable } from '@gantry/service/abortable'

/** Which blobs are on their way, for whomever: what one pull brings, another one need not ask for. */
export interface Flights {
  /** Waits until nobody else brings this blob; then it is the caller's to bring until it is disposed. */
  join(digest: Digest, signal: AbortSignal): Promise<Disposable>
}

export function createFlights(): Flights {
  const running = new Map<Digest, Promise<void>>()
  return {
    async join(digest, signal) {
      for (let other = running.get(digest); other; other = running.get(digest)) await abortable(other, signal)
      const { promise, resolve } = Promise.withResolvers<void>()
      running.set(digest, promise)
      return {
        [Symbol.dispose]() {
          running.delete(digest)
          resolve()
        },
      }
    },
  }
}
