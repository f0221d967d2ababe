const FIRST_MS = 100
const LAST_MS = 5000
const SETTLED_MS = 10_000 // a process that lived this long starts again as if it had never failed

/**
 * How long to wait before a process is started again, in ms: 100, doubling up to 5,000.
 *
 * @param previousMs the wait before its last start; 0 for the first start
 * @param aliveMs how long it lived since
 */
export function nextDelayMs(previousMs: number, aliveMs: number): number {
  if (previousMs === 0 || aliveMs >= SETTLED_MS) return FIRST_MS
  return Math.min(previousMs * 2, LAST_MS)
}
