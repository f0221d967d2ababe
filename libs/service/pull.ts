import { Fault } from '@gantry/model/fault'
import { AckPolicy, createInbox, DeliverPolicy, type Msg, type NatsError, nanos, ReplayPolicy } from 'nats'
import { abortable } from './abortable.ts'
import type { LoggedEvent } from './bus.ts'
import type { Reader } from './forerunner.ts'
import type { Session } from './link.ts'
import { STREAM } from './stream.ts'

/** Asked for at once and so the most that waits here: messages and bytes. */
const BATCH = 256
const BATCH_BYTES = 4 * 1024 * 1024
const EXPIRES_MS = 30_000
const HEARTBEAT_MS = 5000
const SILENCE_MS = 2.5 * HEARTBEAT_MS // without even a heartbeat the consumer is taken for dead
/** The server drops a consumer that nobody asks for so long. */
export const IDLE_MS = 60_000
const CONFIRM_MS = 24 * 3_600_000 // a reader may be slow: nothing is sent again to the same consumer

const HEARTBEAT = 100
const PULL_OVER = /^(request timeout|batch completed|message size exceeds maxbytes)/i

/** A sequence, or the time of the first message wanted. */
export type PullStart = number | Date

/**
 * Reads the log through a consumer of its own that lives as long as the iteration. It asks for a batch once the one
 * before is used up, so a slow reader holds up the server and nothing here.
 *
 * @param from.stream that of events unless told
 * @param from.reader who reads, so that another process can go on where this one is killed
 *
 * @throws {Error} when the consumer cannot go on: the reader opens a new one behind its last event
 */
export async function* pull(
  session: Session,
  { start, stream = STREAM, reader }: { start: PullStart; stream?: string; reader?: Reader | undefined },
  signal: AbortSignal,
): AsyncGenerator<LoggedEvent> {
  const { connection, manager } = session
  const over = AbortSignal.any([signal, session.ended])
  const { name } = await abortable(addConsumer(session, { stream, start, reader }), over)
  reader?.took(manager)
  const inbox = createInbox()
  const arrivals = createArrivals(over)
  const subscription = connection.subscribe(inbox, { callback: arrivals.push })
  const request = JSON.stringify({
    batch: BATCH,
    max_bytes: BATCH_BYTES,
    expires: nanos(EXPIRES_MS),
    idle_heartbeat: nanos(HEARTBEAT_MS),
  })
  let open = 0 // messages the server still may send
  let count = 0 // messages this consumer has sent
  try {
    for (;;) {
      if (open === 0) {
        connection.publish(`$JS.API.CONSUMER.MSG.NEXT.${stream}.${name}`, request, { reply: inbox })
        open = BATCH
      }
      const message = await arrivals.next()
      const status = statusOf(message)
      if (status === 'over') open = 0
      if (status !== undefined) continue
      open--
      const event = eventOf(message, ++count)
      yield event
      if (reader && (open === 0 || arrivals.isEmpty())) message.respond() // confirms all before it, too
    }
  } finally {
    if (!connection.isClosed()) {
      subscription.unsubscribe()
      if (!reader || !isStopping(signal)) manager.consumers.delete(stream, name).catch(() => {}) // or it goes by itself
    }
  }
}

/** Does the process stop? Then who reads goes on with the next one; else nobody does. */
function isStopping({ reason }: AbortSignal): boolean {
  return reason instanceof Fault && reason.code === 'unavailable'
}

function addConsumer(
  { manager }: Session,
  { stream, start, reader }: { stream: string; start: PullStart; reader: Reader | undefined },
) {
  const where =
    start instanceof Date
      ? { deliver_policy: DeliverPolicy.StartTime, opt_start_time: start.toISOString() }
      : { deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: start }
  return manager.consumers.add(stream, {
    ...where,
    ...(reader
      ? { name: reader.consumer(), ack_policy: AckPolicy.All, ack_wait: nanos(CONFIRM_MS) }
      : { ack_policy: AckPolicy.None }),
    replay_policy: ReplayPolicy.Instant,
    inactive_threshold: nanos(IDLE_MS),
    mem_storage: true,
    num_replicas: 1,
  })
}

/** `over`: the server will send nothing more for this request; undefined: it is an event. */
function statusOf(message: Msg): 'alive' | 'over' | undefined {
  const code = message.headers?.code ?? 0
  if (code === 0) return undefined
  if (code === HEARTBEAT) return 'alive'
  const text = message.headers?.description ?? ''
  if (PULL_OVER.test(text)) return 'over'
  throw new Error(`The consumer of the event log ended: ${code} ${text}`)
}

/** Place and count are in the reply subject: `$JS.ACK.[domain.account.]stream.consumer.deliveries.sequence.count...`. */
function eventOf(message: Msg, expected: number): LoggedEvent {
  const parts = message.reply?.split('.') ?? []
  const at = parts.length > 9 ? 7 : 5
  const sequence = Number(parts[at])
  if (!(sequence > 0) || Number(parts[at + 1]) !== expected)
    throw new Error('The consumer of the event log lost messages')
  return { sequence, id: message.headers?.get('Nats-Msg-Id') ?? '', envelope: Uint8Array.from(message.data) }
}

/** What came and is not used yet; bounded because no more than one batch is ever asked for. */
function createArrivals(over: AbortSignal) {
  const queue: Msg[] = []
  let failure: unknown
  let wake = () => {}
  return {
    push(error: NatsError | null, message: Msg): void {
      if (error) failure = error
      else queue.push(message)
      wake()
    },
    isEmpty: () => queue.length === 0,
    /** @throws when the iteration is over, or nothing has come for too long */
    async next(): Promise<Msg> {
      for (;;) {
        over.throwIfAborted()
        if (failure) throw failure
        const message = queue.shift()
        if (message) return message
        const { promise, resolve, reject } = Promise.withResolvers<void>()
        wake = resolve
        const timer = setTimeout(() => reject(new Error('The event log is silent')), SILENCE_MS)
        await abortable(promise, over).finally(() => clearTimeout(timer))
      }
    },
  }
}
