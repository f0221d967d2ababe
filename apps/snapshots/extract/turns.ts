import { Fault } from '@gantry/model/fault'

const MAX_WAITING = 1024 // jobs; more callers than that are told to come back

/** Lets only so many work at a time. */
export interface Turns {
  /**
   * Waits for a turn.
   * @param isFirst goes before all who wait
   * @throws {Fault} `resource-exhausted` when too many wait; `cancelled` when `signal` is aborted before
   */
  take(isFirst: boolean, signal: AbortSignal): Promise<void>
  /** Works from now on, whoever else does. */
  insist(): void
  /** Works no more: the turn goes to whoever waits first. */
  give(): void
  /** Would a turn come at once? */
  isFree(): boolean
  /** How many wait. */
  waiting(): number
  /** Nobody gets a turn any more. */
  close(): void
}

export function createTurns(size: number): Turns {
  const waiting: (() => void)[] = []
  let most = size
  let working = 0
  return {
    async take(isFirst, signal) {
      if (signal.aborted) throw cancelled()
      if (working < most) {
        working++
        return
      }
      if (waiting.length >= MAX_WAITING)
        throw new Fault('resource-exhausted', `Cannot start the work: ${MAX_WAITING} jobs wait already`)
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      const go = (): void => {
        signal.removeEventListener('abort', leave)
        resolve()
      }
      const leave = (): void => {
        waiting.splice(waiting.indexOf(go), 1)
        reject(cancelled())
      }
      signal.addEventListener('abort', leave, { once: true })
      if (isFirst) waiting.unshift(go)
      else waiting.push(go)
      await promise
    },
    insist() {
      working++
    },
    give() {
      const next = working <= most ? waiting.shift() : undefined
      if (next) next()
      else working--
    },
    isFree: () => working < most,
    waiting: () => waiting.length,
    close() {
      most = 0
    },
  }
}

function cancelled(): Fault {
  return new Fault('cancelled', 'The call was cancelled')
}
