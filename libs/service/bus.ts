import { randomUUID } from 'node:crypto'
import { Fault } from '@gantry/model/fault'
import type { Metrics } from '@gantry/model/metric'
import type { Logger } from 'pino'
import type { NatsConfig } from './config.ts'
import { readerNamed } from './forerunner.ts'
import { createJournal, type Journal } from './journal.ts'
import { createLink, type Session } from './link.ts'
import { readLog } from './log-reader.ts'
import { IDLE_MS } from './pull.ts'
import type { LogSpec } from './stream.ts'
import { subjectOf } from './topic.ts'

/** The most an event may take on the bus, in bytes; the server's usual limit is 1 MiB with headers. */
export const MAX_EVENT_BYTES = 1_000_000

/** An event to append to the log. */
export interface BusEvent {
  readonly namespace: string
  readonly topic: string
  /** The same id is appended once. Ids `<uuid>:<n>` with a growing n are also recognised after the duplicate window. */
  readonly id?: string
  /** The bytes of a `containerd.types.Envelope`. */
  readonly envelope: Uint8Array
}

/** An event as it lies in the log. */
export interface LoggedEvent {
  /** Its place: grows by one or more from event to event. */
  readonly sequence: number
  readonly id: string
  readonly envelope: Uint8Array
}

/** Where reading starts: at a sequence (that one included), at a time, or with what comes from now on. */
export type LogStart = number | Date | 'new'

/** Carries events between processes and keeps them: a JetStream log. */
export interface Bus extends AsyncDisposable {
  /** Is the server reachable and the log ready? */
  readonly ready: boolean
  /** The server, while it is reachable: `host:port`, and its version. */
  readonly server: { readonly server: string; readonly version: string } | undefined
  /** Resolves once the log is ready; rejects only when `signal` is aborted. */
  whenReady(signal: AbortSignal): Promise<void>
  /**
   * Appends one event; resolves when the log has it. While the server is away it waits up to 2 s.
   *
   * @throws {Fault} `invalid-argument` for a bad namespace or topic, `resource-exhausted` for an event that is too
   *   large, `unavailable` when the log did not confirm it: send the same id again
   */
  publish(event: BusEvent, signal: AbortSignal): Promise<void>
  /**
   * Reads the log from `from` on and then goes on with what comes, across restarts of the server, without a gap and
   * without doubles, until `signal` is aborted (it then ends without an error).
   *
   * @param options.reader when this process is killed or stops, and another one reads under the same name within a minute,
   *   it goes on behind the last event that was handed out here, and not at `from`; a few events may come twice
   * @throws {Fault} `out-of-range` for a sequence that the log has not reached yet; `data-loss` when the log has dropped
   *   events that were still to be read, because of its limits: the message says where to go on. 0 and 1 are the first there is.
   */
  read(options: { from: LogStart; reader?: string; signal: AbortSignal }): AsyncIterable<LoggedEvent>
  /** Another log on the same server, made when first needed. */
  journal(spec: LogSpec): Journal
}

/** Connects in the background for ever; starting without a server is no error. */
export function connectBus(config: NatsConfig, log: Logger, metrics?: Metrics): Bus {
  const link = createLink(config, log)
  const about = { name: 'gantry_bus_connected', help: 'Is the server of the event bus reachable?' }
  metrics?.read('gauge', about, () => (link.session ? 1 : 0))
  const self = randomUUID()
  const born = performance.now()
  let count = 0
  return {
    get ready() {
      return link.session !== undefined
    },
    get server() {
      const connection = link.session?.connection
      return connection && { server: connection.getServer(), version: connection.info?.version ?? '' }
    },
    whenReady: async (signal) => {
      await link.next(signal)
    },
    async publish({ namespace, topic, id = `${self}:${++count}`, envelope }, signal) {
      const subject = subjectOf(namespace, topic)
      if (envelope.length > MAX_EVENT_BYTES)
        throw new Fault('resource-exhausted', `Cannot publish ${topic}: the event has ${envelope.length} bytes`)
      const session = link.session ?? (await waitFor(link.next, signal))
      await session.append({ subject, id, data: envelope })
    },
    read({ reader, ...options }) {
      const isYoung = performance.now() - born < IDLE_MS // what was before us is still there
      return readLog(link, { ...options, reader: reader === undefined ? undefined : readerNamed(reader, isYoung) })
    },
    journal: (spec) => createJournal(link, spec),
    [Symbol.asyncDispose]: () => link.close(),
  }
}

const WAIT_MS = 2000

async function waitFor(next: (signal: AbortSignal) => Promise<Session>, signal: AbortSignal): Promise<Session> {
  try {
    return await next(AbortSignal.any([signal, AbortSignal.timeout(WAIT_MS)]))
  } catch (error) {
    if (signal.aborted) throw error
    throw new Fault('unavailable', 'Cannot publish: the event bus is not reachable', { cause: error })
  }
}
