import { Fault } from '@gantry/model/fault'
import { type CallStatus, toStatus } from './status.ts'

const UNITS_MS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 }
const MAX_TIMER_MS = 2 ** 31 - 1
const CANCELLED = 1

/** The life of a call that is served: it is over once, and whoever works for it hears when nobody waits any more. */
export interface Life {
  readonly isOver: boolean
  /** Aborted when the caller hangs up, the deadline passes or the server stops. */
  readonly signal: AbortSignal
  /** Why it was stopped, if it was. */
  readonly reason: Fault | undefined
  /** It ends with this code of gRPC. @returns false when it was over already */
  close(code: number): boolean
  /** Ends it from our side, with the fault as its reason. */
  abort(reason: Fault): void
  /** The caller is gone. */
  hangUp(): void
  /** Hears when the caller is gone, or the call was aborted, before it was over. */
  onStop(heard: () => void): void
  /** Hears once, with the code of gRPC, when the call is over for whatever reason. */
  onOver(heard: (code: number) => void): void
}

/**
 * @param timeout as gRPC sends it
 * @param end     ends the call on the wire
 */
export function createLife(timeout: string | string[] | undefined, end: (status: CallStatus) => void): Life {
  let hangup: AbortController | undefined // made when somebody asks: most calls are over before
  let reason: Fault | undefined
  let over = false
  let stopped: (() => void) | undefined
  let ended: ((code: number) => void) | undefined
  const ms = parseTimeout(timeout)
  const timer = ms === undefined ? undefined : setTimeout(() => abort(LATE), Math.min(ms, MAX_TIMER_MS))

  function close(code: number): boolean {
    if (over) return false
    over = true
    if (timer) clearTimeout(timer)
    ended?.(code)
    return true
  }

  function stop(why: Fault): void {
    reason ??= why
    hangup?.abort(reason)
    stopped?.()
  }

  function abort(why: Fault): void {
    if (over) return
    reason = why
    end(toStatus(why))
    stop(why)
  }

  return {
    get isOver() {
      return over
    },
    get signal() {
      hangup ??= new AbortController()
      if (reason) hangup.abort(reason)
      return hangup.signal
    },
    get reason() {
      return reason
    },
    close,
    abort,
    hangUp() {
      if (close(CANCELLED)) stop(HANGUP)
    },
    onStop: (heard) => {
      stopped = heard
    },
    onOver: (heard) => {
      ended = heard
    },
  }
}

export const HANGUP = new Fault('cancelled', 'The caller hung up')
const LATE = new Fault('deadline-exceeded', 'The deadline has passed')

/** `100m` and the like, in ms. */
function parseTimeout(text: string | string[] | undefined): number | undefined {
  if (text === undefined) return undefined
  const [, number, unit = ''] = /^(\d{1,8})([HMSmun])$/.exec(String(text)) ?? []
  return number === undefined ? undefined : Number(number) * (UNITS_MS[unit] ?? 0)
}
