import { setTimeout } from 'node:timers/promises'
import {
  createRegistry,
  fromBinary,
  type JsonValue,
  type Message,
  type Registry,
  toBinary,
  toJson,
} from '@bufbuild/protobuf'
import { file_containerd_events_container } from '@gantry/api/containerd/events/container_pb'
import { file_containerd_events_content } from '@gantry/api/containerd/events/content_pb'
import { file_containerd_events_image } from '@gantry/api/containerd/events/image_pb'
import { file_containerd_events_namespace } from '@gantry/api/containerd/events/namespace_pb'
import { file_containerd_events_sandbox } from '@gantry/api/containerd/events/sandbox_pb'
import { file_containerd_events_snapshot } from '@gantry/api/containerd/events/snapshot_pb'
import { file_containerd_events_task } from '@gantry/api/containerd/events/task_pb'
import { EnvelopeSchema, type Envelope as WireEnvelope } from '@gantry/api/containerd/types/event_pb'
import { file_containerd_types_runc_options_oci } from '@gantry/api/containerd/types/runc/options/oci_pb'
import { SequencedEnvelopeSchema } from '@gantry/api/gantry/events/v1/events_pb'
import { isFault } from '@gantry/model/fault'
import { type Packed, typeNameOf } from './any.ts'
import { toDate, type Wire } from './wire.ts'

const FROM_HEADER = 'gantry-events-from'
const RECONNECT_MS = 100

export interface Envelope {
  readonly timestamp: Date
  readonly namespace: string
  readonly topic: string
  /** The message name of the event, such as `containerd.events.TaskExit`. */
  readonly type: string
  /** The decoded event; `undefined` for a type this client does not know, or one that is not what it is called. */
  readonly event: Message | undefined
  /** The event as JSON with proto field names (`container_id`). */
  readonly json: JsonValue
  /** Its place in the log; `undefined` when the server keeps none (containerd). */
  readonly sequence: bigint | undefined
}

export interface SubscribeOptions {
  readonly filters?: readonly string[]
  /** Replays from a sequence number or a time; from now on, by our clock, unless told. */
  readonly from?: bigint | Date
}

export interface Events {
  /**
   * Events of all namespaces. Goes on after the server was away, with nothing lost or doubled where it keeps a log. Ends
   * when aborted.
   */
  subscribe(options: SubscribeOptions, signal: AbortSignal): AsyncIterable<Envelope>
}

const registry: Registry = createRegistry(
  file_containerd_events_container,
  file_containerd_events_content,
  file_containerd_events_image,
  file_containerd_events_namespace,
  file_containerd_events_sandbox,
  file_containerd_events_snapshot,
  file_containerd_events_task,
  file_containerd_types_runc_options_oci,
)

export function createEvents(wire: Wire): Events {
  return { subscribe: (options, signal) => subscribe(wire, options, signal) }
}

/**
 * Asks for a replay even when only what comes is wanted: only such a subscriber gets sequence numbers, and without them
 * a broken stream could not be taken up where it broke. A server without a log ignores the header.
 */
async function* subscribe(wire: Wire, options: SubscribeOptions, signal: AbortSignal): AsyncIterable<Envelope> {
  let from = options.from ?? new Date()
  while (!signal.aborted) {
    const headers = { [FROM_HEADER]: typeof from === 'bigint' ? from.toString() : from.toISOString() }
    try {
      const request = { filters: [...(options.filters ?? [])] }
      for await (const wireEnvelope of wire.services.events.subscribe(request, wire.call(signal, { headers }))) {
        const envelope = decodeEnvelope(wireEnvelope)
        if (envelope.sequence !== undefined) from = envelope.sequence + 1n
        yield envelope
      }
    } catch (error) {
      if (signal.aborted) return
      if (!isFault(error, 'unavailable') && !isFault(error, 'cancelled')) throw error
    }
    await setTimeout(RECONNECT_MS, undefined, { signal }).catch(() => undefined)
  }
}

/** The place in the log travels as a field that containerd's envelope does not know, and is kept as such on the way. */
export function decodeEnvelope(envelope: WireEnvelope): Envelope {
  const { sequence } = fromBinary(SequencedEnvelopeSchema, toBinary(EnvelopeSchema, envelope))
  const { timestamp, namespace, topic, event } = envelope
  const type = event ? typeNameOf(event) : ''
  return {
    timestamp: toDate(timestamp),
    namespace,
    topic,
    type,
    ...decodeEvent(type, event),
    sequence: sequence === 0n ? undefined : sequence,
  }
}

function decodeEvent(type: string, event: Packed | undefined): { event: Message | undefined; json: JsonValue } {
  const schema = registry.getMessage(type)
  const message = schema && event && readable(() => fromBinary(schema, event.value))
  if (!schema || !message) return { event: undefined, json: opaque(event) }
  const json = readable(() => toJson(schema, message, { registry, useProtoFieldName: true }))
  return { event: message, json: json ?? opaque(event) }
}

/** A publisher may send anything under any name, and an event may hold options of a runtime that we do not know. */
function readable<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch {
    return undefined
  }
}

function opaque(event: Packed | undefined): JsonValue {
  return event ? { '@type': typeNameOf(event), value: Buffer.from(event.value).toString('base64') } : {}
}
