import { abortable } from '@gantry/service/abortable'

/** Which blobs are on their way, for whomever: what one pull brings, another one need not ask for. */
export interface Flights {
  /** Waits until nobody else brings this blob; then it is the caller's to bring until it is disposed. */
  join(blob: string, signal: AbortSignal): Promise<Disposable>
}

export function createFlights(): Flights {
  const running = new Map<string, Promise<void>>()
  return {
    async join(blob, signal) {
      for (let other = running.get(blob); other; other = running.get(blob)) await abortable(other, signal)
      const { promise, resolve } = Promise.withResolvers<void>()
      running.set(blob, promise)
      return {
        [Symbol.dispose]() {
          running.delete(blob)
          resolve()
        },
      }
    },
  }
}
