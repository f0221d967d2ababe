import { setTimeout as sleep } from 'node:timers/promises'

const SHORTEST_MS = 20 // less than this is not worth a timer: it is slept later

/** Call it after each piece of work: it waits as long as the work is ahead of its rate. Throws when the signal is aborted. */
export type Pace = (bytes: number) => Promise<void>

/** @param bytesPerSecond 0 means without limit */
export function createPace(bytesPerSecond: bigint, signal: AbortSignal): Pace {
  const msPerByte = bytesPerSecond > 0n ? 1000 / Number(bytesPerSecond) : 0
  let dueMs = performance.now()
  return async (bytes) => {
    signal.throwIfAborted()
    const now = performance.now()
    dueMs = Math.max(dueMs, now) + bytes * msPerByte
    if (dueMs - now >= SHORTEST_MS) await sleep(dueMs - now, undefined, { signal })
  }
}
