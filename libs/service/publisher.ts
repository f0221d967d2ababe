import { setTimeout as sleep } from 'node:timers/promises'
import { isFault } from '@gantry/model/fault'
import type { Outbox, PendingEvent } from '@gantry/store/outbox'
import type { Logger } from 'pino'
import type { Bus } from './bus.ts'

const BATCH = 256 // events read from the outbox at once
const PATIENCE_MS = 2000 // how long a write waits for its events, unless one before it waited in vain
const RETRY_MS = 50
const FORGET_MS = 100

/** Moves events from the outbox to the log, one after the other. */
export interface Publisher {
  /** Events have been committed up to `seq`: resolves when the log has them, or the wait is not worth it. */
  delivered(seq: number): Promise<void>
  /** How many events the log does not have yet. */
  behind(): number
  close(): Promise<void>
}

export interface PublisherParts {
  readonly outbox: Outbox
  readonly bus: Pick<Bus, 'ready' | 'whenReady' | 'publish'>
  readonly log: Logger
}

/**
 * One event is in flight at a time: were several, a lost one could arrive behind its successors, and readers, who tell
 * doubles by the growing sequence, would take it for one.
 */
export function createPublisher({ outbox, bus, log }: PublisherParts): Publisher {
  const stop = new AbortController()
  const born = performance.now()
  let acked = 0 // sequence of the last event the log has
  let waits = false // the next one does, and why has been said
  let removed = 0
  let removing: Promise<void> | undefined
  let timer: NodeJS.Timeout | undefined
  const writes = createWaiters()
  let work = Promise.withResolvers<void>()

  async function run(): Promise<void> {
    while (!stop.signal.aborted) {
      const batch = outbox.pending(BATCH, acked)
      if (batch.length > 0) await publish(batch)
      else {
        writes.caughtUp()
        await work.promise
        work = Promise.withResolvers<void>()
      }
    }
  }

  async function publish(batch: readonly PendingEvent[]): Promise<void> {
    for (const { seq, ...event } of batch) {
      try {
        await bus.whenReady(stop.signal)
        await bus.publish(event, stop.signal)
      } catch (error) {
        if (stop.signal.aborted) return
        if (!isFault(error, 'resource-exhausted') && !isFault(error, 'invalid-argument')) {
          log[waits ? 'debug' : 'warn']({ err: error, topic: event.topic }, 'An event waits')
          waits = true
          writes.giveUp()
          await sleep(RETRY_MS, undefined, { signal: stop.signal }).catch(() => {})
          return
        }
        // It can never be published: kept, it would hold up every event behind it.
        log.error({ err: error, topic: event.topic, namespace: event.namespace }, 'An event is dropped')
      }
      acked = seq
      waits = false
      writes.reached(seq)
    }
    forgetSoon()
  }

  /**
   * Removes what is delivered from the outbox, a while later and many at once: a removal is a commit that the next write
   * would have to wait for. A crash before it only repeats ids.
   */
  function forgetSoon(): void {
    timer ??= setTimeout(() => {
      timer = undefined
      removing = forget()
    }, FORGET_MS)
  }

  async function forget(): Promise<void> {
    await removing
    const through = acked
    if (removed >= through) return
    try {
      await outbox.removeThrough(through)
      removed = through
    } catch (error) {
      log.error({ err: error }, 'Delivered events stay in the outbox')
    }
  }

  const running = run()
  return {
    behind: () => outbox.behind(acked),
    async delivered(seq) {
      work.resolve()
      const isConnecting = performance.now() - born < PATIENCE_MS // calls come before the bus is reached
      if ((bus.ready || isConnecting) && seq > acked) await writes.wait(seq)
    },
    async close() {
      stop.abort()
      work.resolve()
      writes.giveUp()
      await running
      clearTimeout(timer)
      await forget()
    },
  }
}

/** Writes that wait for the log. Once one has waited in vain none does, until the log has caught up. */
function createWaiters() {
  let late = false
  let waiting: { readonly seq: number; readonly resolve: () => void }[] = []
  function giveUp(): void {
    late = true
    for (const { resolve } of waiting) resolve()
    waiting = []
  }
  return {
    giveUp,
    caughtUp: (): void => {
      late = false
    },
    reached(seq: number): void {
      for (const each of waiting) if (each.seq <= seq) each.resolve()
      waiting = waiting.filter((each) => each.seq > seq)
    },
    async wait(seq: number): Promise<void> {
      if (late) return
      const { promise, resolve } = Promise.withResolvers<void>()
      waiting.push({ seq, resolve })
      const timer = setTimeout(giveUp, PATIENCE_MS)
      await promise
      clearTimeout(timer)
    },
  }
}
