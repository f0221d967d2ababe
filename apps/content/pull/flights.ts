import type { Digest } from '@gantry/model/digest'

/** Which blobs are on their way, for whomever: what one pull brings, another one need not ask for. */
export interface Flights {
  /** Waits until nobody else brings this blob; then it is the caller's to bring until it is disposed. */
  join(digest: Digest, signal: AbortSignal): Promise<Disposable>
}

export function createFlights(): Flights {
  const running = new Map<Digest, Promise<void>>()
  return {
    async join(digest, signal) {
      for (let other = running.get(digest); other; other = running.get(digest)) await landed(other, signal)
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

async function landed(flight: Promise<void>, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted()
  const aborted = Promise.withResolvers<never>()
  const abort = (): void => aborted.reject(signal.reason)
  signal.addEventListener('abort', abort, { once: true })
  try {
    await Promise.race([flight, aborted.promise])
  } finally {
    signal.removeEventListener('abort', abort)
  }
}
