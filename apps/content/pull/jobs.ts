import { setMaxListeners } from 'node:events'

/** Work of one pull that runs side by side: at most `slots` at a time, and one failure stops all of it. */
export interface Jobs {
  /** Aborted when the pull is, or when one of its jobs fails. */
  readonly signal: AbortSignal
  /** Waits for a slot, then works. `release` gives the slot to the next one before the work is done. */
  run<T>(work: (signal: AbortSignal, release: () => void) => Promise<T>): Promise<T>
  /** Stops all jobs because of a failure elsewhere in the pull; throws what failed first. */
  fail(error: unknown): never
}

export function createJobs(slots: number, outer: AbortSignal): Jobs {
  const failed = new AbortController()
  const signal = AbortSignal.any([outer, failed.signal])
  setMaxListeners(0, signal) // every job listens
  const waiting: (() => void)[] = []
  let free = slots
  const fail = (error: unknown): never => {
    failed.abort(error)
    throw signal.reason // what failed first, not what it dragged along
  }
  return {
    signal,
    fail,
    async run(work) {
      if (free > 0) free--
      else await new Promise<void>((resolve) => waiting.push(resolve))
      let held = true
      const release = (): void => {
        if (!held) return
        held = false
        const next = waiting.shift()
        if (next) next()
        else free++
      }
      try {
        signal.throwIfAborted()
        return await work(signal, release)
      } catch (error) {
        return fail(error)
      } finally {
        release()
      }
    },
  }
}

/** Waits for all, also when one has failed: nothing goes on behind the caller's back. */
export async function together<T>(tasks: readonly Promise<T>[]): Promise<T[]> {
  const results = await Promise.allSettled(tasks)
  return results.map((result) => {
    if (result.status === 'rejected') throw result.reason
    return result.value
  })
}
