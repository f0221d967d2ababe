import type { JsonValue, Message } from '@bufbuild/protobuf'
import { Fault } from '@gantry/model/fault'
import type { Wire } from './wire.ts'

export interface Envelope {
  readonly timestamp: Date
  readonly namespace: string
  readonly topic: string
  /** The message name of the event, such as `containerd.events.TaskExit`. */
  readonly type: string
  /** The decoded event; `undefined` for a type this client does not know. */
  readonly event: Message | undefined
  /** The event as JSON with proto field names (`container_id`). */
  readonly json: JsonValue
  /** Its place in the log; `undefined` when the server keeps none (containerd). */
  readonly sequence: bigint | undefined
}

export interface SubscribeOptions {
  readonly filters?: readonly string[]
  /** Replays from a sequence number or a time; from now on unless told. */
  readonly from?: bigint | Date
}

export interface Events {
  /** Events of all namespaces. Goes on after the server was away, with nothing lost or doubled where it keeps a log. Ends when aborted. */
  subscribe(options: SubscribeOptions, signal: AbortSignal): AsyncIterable<Envelope>
}

export function createEvents(_wire: Wire): Events {
  throw new Fault('unimplemented', 'Not yet')
}
