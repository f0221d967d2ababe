import { abortable } from '@gantry/service/abortable'

const RETRY_MS = 10_000

/** Numbers whose removal is still to come. */
export interface Backlog {
  add(id: number): void
  /** Resolves when everything that waits has been tried once. */
  settled(signal: AbortSignal): Promise<void>
  /** Breaks off, and resolves when nothing is at work any more. */
  stop(): Promise<void>
}

/**
 * Removes in the background, the latest number first, because a snapshot is younger than those below it. What fails is
 * tried again when something went well, and every ten seconds.
 *
 * @param remove gives up when its signal is aborted
 * @param report hears of the first failure of each number
 */
export function createBacklog(
  remove: (id: number, signal: AbortSignal) => Promise<void>,
  report: (error: unknown, id: number) => void,
): Backlog {
  const stopping = new AbortController()
  const waiting = new Set<number>()
  const reported = new Set<number>()
  let again = false // something was added, or went well
  let round: Promise<void> | undefined
  let timer: NodeJS.Timeout | undefined

  async function work(): Promise<void> {
    do {
      again = false
      for (const id of [...waiting].sort((a, b) => b - a)) await attempt(id)
    } while (again)
  }

  async function attempt(id: number): Promise<void> {
    if (stopping.signal.aborted) return
    try {
      await remove(id, stopping.signal)
      waiting.delete(id)
      reported.delete(id)
      again = true
    } catch (error) {
      if (!reported.has(id) && !stopping.signal.aborted) report(error, id)
      reported.add(id)
    }
  }

  function start(): Promise<void> {
    clearTimeout(timer)
    round ??= work().finally(() => {
      round = undefined
      if (waiting.size === 0 || stopping.signal.aborted) return
      timer = setTimeout(start, RETRY_MS)
      timer.unref()
    })
    return round
  }

  return {
    add(id) {
      waiting.add(id)
      again = true
      void start()
    },
    async settled(signal) {
      await abortable(round ?? start(), signal)
    },
    async stop() {
      stopping.abort()
      again = false
      clearTimeout(timer)
      await round
    },
  }
}
