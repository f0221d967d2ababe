const FIRST_MS = 100
const MOST_MS = 60_000
const LONG_MS = 10_000 // a run of that length counts as well

/** How long to wait before each start of one container: doubled as long as it ends soon, as Docker does. */
export interface Backoff {
  /** The wait before the next start. @param nowMs when it ended */
  next(nowMs: number): number
  started(nowMs: number): void
}

export function createBackoff(): Backoff {
  let delay = 0
  let startedMs = Number.POSITIVE_INFINITY
  return {
    next(nowMs) {
      delay = delay === 0 || nowMs - startedMs >= LONG_MS ? FIRST_MS : Math.min(delay * 2, MOST_MS)
      startedMs = Number.POSITIVE_INFINITY
      return delay
    },
    started(nowMs) {
      startedMs = nowMs
    },
  }
}
