import { setTimeout as sleep } from 'node:timers/promises'
import { Fault } from '@gantry/model/fault'
import { type Hop, openHop } from './hop-client.ts'
import { hopAddress } from './hop-wire.ts'

const RETRY_MS = 25

/** The hop to a process. It is opened when first needed, and again whenever it broke. */
export interface Upstream extends AsyncDisposable {
  /** The hop when it stands now; otherwise it is on its way from here on. */
  current(): Hop | undefined
  /** @throws {Fault} `unavailable` when it does not stand within `waitMs` */
  hop(waitMs: number): Promise<Hop>
}

export function createUpstream(address: string): Upstream {
  let ready: Hop | undefined
  let opening: Promise<void> | undefined
  let socket: Disposable | undefined
  let closed = false

  function open(): Promise<void> {
    return new Promise((resolve) => {
      socket = openHop(
        hopAddress(address),
        (hop) => {
          ready = hop
          resolve()
        },
        () => {
          ready = undefined
          resolve(closed ? undefined : sleep(RETRY_MS))
        },
      )
    })
  }

  function dial(): Promise<void> {
    opening ??= open().finally(() => {
      opening = undefined
    })
    return opening
  }

  return {
    current() {
      if (!ready && !closed) void dial()
      return ready
    },
    async hop(waitMs) {
      const end = performance.now() + waitMs
      while (!ready && !closed && performance.now() < end) await dial()
      if (ready) return ready
      throw new Fault('unavailable', `Cannot reach "${address}": is the service running?`)
    },
    async [Symbol.asyncDispose]() {
      closed = true
      socket?.[Symbol.dispose]()
    },
  }
}
