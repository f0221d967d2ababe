import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { memoryTrimmer } from '@gantry/linux/trim'

const LOOK_MS = 5000
const SPARE = 32 * 1024 * 1024 // bytes more than at the best of times, which nobody looks at
const IDLE = 0.1 // of a processor

/**
 * Gives memory back that a burst of calls took; else the process would stay as large as its callers ever made it: a
 * gigabyte, when sixty of them sent large requests at once. What is dead V8 finds by itself while calls come, and does not
 * look for when none do: then it is told to, once after each time that was busy.
 */
export function giveMemoryBack(everyMs = LOOK_MS): void {
  const trim = memoryTrimmer()
  let low = Number.POSITIVE_INFINITY
  let used = process.cpuUsage()
  let wasBusy = true
  const look = (): void => {
    const { user, system } = process.cpuUsage(used)
    used = process.cpuUsage()
    const isBusy = user + system > IDLE * everyMs * 1000
    const size = process.memoryUsage.rss()
    low = Math.min(low, size)
    if (size > low + SPARE) {
      if (wasBusy && !isBusy) collectGarbage()
      void trim?.()
    }
    wasBusy = isBusy
  }
  setInterval(look, everyMs).unref()
}

/** Takes about 50 ms. */
function collectGarbage(): void {
  setFlagsFromString('--expose-gc')
  const collect: unknown = runInNewContext('gc')
  if (typeof collect === 'function') collect()
}
