import { setMaxListeners } from 'node:events'

/** Work of one pull that runs side by side: at most `slots` at a time, and one failure stops all of it. */
export interface Jobs {
  /** Aborted when the pull is, or when one of its jobs fails. */
  readonly signal: AbortSignal
  /** Waits for a slot, then works. `release` gives the slot to the next one before the work is done. */
  run<T>(work: (signal: AbortSignal, release: () => void) => Promise<T>): Promise<T>
  /** A slot that nobody waits for, until it is disposed; undefined when there is none. */
  spare(): Disposable | undefined
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
  /** For a slot that was taken: gives it to the next one, once. */
  function releaser(): () => void {
    let held = true
    return () => {
      if (!held) return
      held = false
      const next = waiting.shift()
      if (next) next()
      else free++
    }
  }
  return {
    signal,
    fail,
    spare() {
      if (free === 0) return undefined
      free--
      return { [Symbol.dispose]: releaser() }
    },
    async run(work) {
      if (free > 0) free--
      else await new Promise<void>((resolve) => waiting.push(resolve))
      const release = releaser()
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
