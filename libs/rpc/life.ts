import { Fault } from '@gantry/model/fault'
import { type CallStatus, toStatus } from './status.ts'

const UNITS_MS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 }
export const MAX_TIMER_MS = 2 ** 31 - 1
const CANCELLED = 1

/**
 * The life of a call that is served: it is over once, and whoever works for it hears when nobody waits any more. There is
 * one for each call, so that it is a class: its functions cost no memory. A function that is written where it is assigned to a field
 * (`this.heard = () => ...`) is taken by V8 for one that lasts: it lies among the old from the start, and keeps the call with it
 * until V8 searches all of its memory. Give it a name first, then assign that.
 */
export abstract class Life {
  isOver = false
  /** Why it was stopped, if it was. */
  reason: Fault | undefined
  /** Hears when the caller is gone, or the call was aborted, before it was over. */
  onStop: (() => void) | undefined
  /** Hears once, with the code of gRPC, when the call is over for whatever reason. */
  onOver: ((code: number) => void) | undefined
  readonly #timer: NodeJS.Timeout | undefined
  #hangup: AbortController | undefined // made when somebody asks: most calls are over before

  /** @param timeout as gRPC sends it */
  constructor(timeout: string | string[] | undefined) {
    const ms = parseTimeout(timeout)
    if (ms !== undefined) this.#timer = setTimeout(() => this.abort(LATE), Math.min(ms, MAX_TIMER_MS))
  }

  /** Ends the call on the wire. */
  abstract end(status: CallStatus): void

  /** Aborted when the caller hangs up, the deadline passes or the server stops. */
  get signal(): AbortSignal {
    this.#hangup ??= new AbortController()
    if (this.reason) this.#hangup.abort(this.reason)
    return this.#hangup.signal
  }

  /** It ends with this code of gRPC. @returns false when it was over already */
  close(code: number): boolean {
    if (this.isOver) return false
    this.isOver = true
    if (this.#timer) clearTimeout(this.#timer)
    this.onOver?.(code)
    return true
  }

  /** Ends it from our side, with the fault as its reason. */
  abort(reason: Fault): void {
    if (this.isOver) return
    this.reason = reason
    this.end(toStatus(reason))
    this.#stop()
  }

  /** The caller is gone. */
  hangUp(): void {
    if (!this.close(CANCELLED)) return
    this.reason = HANGUP
    this.#stop()
  }

  #stop(): void {
    this.#hangup?.abort(this.reason)
    this.onStop?.()
  }
}

export const HANGUP = new Fault('cancelled', 'The caller hung up')
export const STOPPING = new Fault('unavailable', 'The service is stopping')
export const LATE = new Fault('deadline-exceeded', 'The deadline has passed')

/** `100m` and the like, in ms. */
function parseTimeout(text: string | string[] | undefined): number | undefined {
  if (text === undefined) return undefined
  const [, number, unit = ''] = /^(\d{1,8})([HMSmun])$/.exec(String(text)) ?? []
  return number === undefined ? undefined : Number(number) * (UNITS_MS[unit] ?? 0)
}
