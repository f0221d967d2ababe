import { randomUUID } from 'node:crypto'
import type { Http2Session } from 'node:http2'
import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import type { Events } from '@gantry/api/containerd/services/events/v1/events_pb'
import { type Envelope, EnvelopeSchema } from '@gantry/api/containerd/types/event_pb'
import { SequencedEnvelopeSchema } from '@gantry/api/gantry/events/v1/events_pb'
import { identify } from '@gantry/linux/process'
import { parseTime, toTimestamp } from '@gantry/model/clock'
import { Fault } from '@gantry/model/fault'
import { parseFilters } from '@gantry/model/filter'
import type { Implementation } from '@gantry/rpc/service'
import type { Bus, LogStart } from '@gantry/service/bus'
import { callerOf } from './access/caller.ts'
import { eventFields } from './event-fields.ts'

/** Of which namespaces a caller may hear, and in which it may publish. */
export interface Asked {
  /** A subscription lasts until that is disposed. @throws {Fault} `resource-exhausted` */
  subscribe(): Disposable
  /** @throws {Fault} when it may not hear anything any more */
  mayRead(namespace: string): boolean
  /** @throws {Fault} `permission-denied` */
  write(namespace: string): void
}

const ANYTHING: Asked = {
  subscribe: () => ({ [Symbol.dispose]: () => undefined }),
  mayRead: () => true,
  write: () => undefined,
}

/** Asks for a replay: a sequence number, an RFC 3339 time, or `new` for what comes from now on, numbered. */
const FROM_HEADER = 'gantry-events-from'

/**
 * containerd.services.events.v1.Events over the durable log (behaviour facts, 10). A subscriber gets what happens from
 * now on in every namespace; the same process that subscribes again after its gateway went, as dockerd does, gets what it
 * missed meanwhile. One that sends the header `gantry-events-from` gets the log from there, and each envelope
 * carries its sequence, so that it can go on exactly where it stopped.
 *
 * @param ask what the caller may do, anything unless told: of other namespaces it neither hears nor tells
 */
export function eventsService(bus: Bus, ask: Asked = ANYTHING): Implementation<typeof Events> {
  return {
    async publish({ topic, event }, { namespace, signal }) {
      ask.write(namespace)
      if (event === undefined) throw new Fault('invalid-argument', 'Cannot publish: the event is missing')
      const envelope = create(EnvelopeSchema, { timestamp: toTimestamp(new Date()), namespace, topic, event })
      await append(bus, envelope, signal)
      return {}
    },

    async forward({ envelope }, { signal }) {
      if (envelope?.timestamp === undefined)
        throw new Fault('invalid-argument', 'Cannot forward: the envelope has no timestamp')
      ask.write(envelope.namespace)
      await append(bus, envelope, signal)
      return {}
    },

    async *subscribe({ filters }, { header, session, signal }) {
      const wanted = parseFilters(filters)
      const from = header(FROM_HEADER)
      using _ = ask.subscribe()
      const reader = from === undefined ? readerOf(session, filters) : undefined
      for await (const { sequence, envelope } of bus.read({ from: parseStart(from), ...reader, signal })) {
        const bytes = from === undefined ? envelope : numbered(envelope, sequence)
        const message = fromBinary(EnvelopeSchema, bytes)
        if (ask.mayRead(message.namespace) && wanted(eventFields(message))) yield message
      }
    },
  }
}

/** What tells the subscription of one process from all others: nothing, when the process cannot be told. */
function readerOf(session: Http2Session | undefined, filters: readonly string[]): { reader?: string } {
  const caller = callerOf(session)
  const process = caller.kind === 'local' && caller.pid > 0 ? identify(caller.pid) : undefined
  return process ? { reader: JSON.stringify([process.pid, process.startTime, filters]) } : {}
}

async function append(bus: Bus, envelope: Envelope, signal: AbortSignal): Promise<void> {
  const { namespace, topic } = envelope
  await bus.publish({ namespace, topic, id: randomUUID(), envelope: toBinary(EnvelopeSchema, envelope) }, signal)
}

/** Adds the sequence behind the bytes of an envelope: protobuf reads what follows as one more field. */
function numbered(envelope: Uint8Array, sequence: number): Uint8Array {
  return Buffer.concat([
    envelope,
    toBinary(SequencedEnvelopeSchema, create(SequencedEnvelopeSchema, { sequence: BigInt(sequence) })),
  ])
}

function parseStart(text: string | undefined): LogStart {
  if (text === undefined || text === 'new') return 'new'
  if (/^\d{1,15}$/.test(text)) return Number(text)
  const ms = parseTime(text.toUpperCase())
  if (ms === undefined)
    throw new Fault(
      'invalid-argument',
      `Cannot replay from "${text}": give a sequence number, an RFC 3339 time or "new"`,
    )
  return ms > Date.now() ? 'new' : new Date(Math.max(ms, 0)) // the server would take a time of another age for one of ours
}
