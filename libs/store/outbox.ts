/**
 * Events that are stored with the change they stand for and leave once the bus has them.
 *
 *   outbox       [seq, 16 digits] -> namespace 00 topic 00 envelope
 *   outbox-state [uuid] [last]    -> text: who this store is, and the last sequence it gave out
 */
import { randomUUID } from 'node:crypto'
import type { Codec } from './codec.ts'
import type { Store } from './store.ts'

/** An event on its way out; namespace and topic are identifiers, so neither holds a NUL. */
export interface OutboxEvent {
  readonly namespace: string
  readonly topic: string
  readonly envelope: Uint8Array
}

/** An event that waits; `id` is `<uuid of this store>:<seq>`, and `seq` only ever grows. */
export interface PendingEvent extends OutboxEvent {
  readonly id: string
  readonly seq: number
}

export interface Outbox {
  /** Only inside `Store.write`: the event is stored if and only if the write is. Returns its sequence. */
  append(event: OutboxEvent): number
  /** The oldest committed events behind `after` (a sequence), oldest first. */
  pending(limit: number, after?: number): PendingEvent[]
  /** How many committed events there are behind `after` (a sequence). */
  behind(after: number): number
  /** Forgets events that have been delivered, up to and with `seq`. */
  removeThrough(seq: number): Promise<void>
}

const DIGITS = 16

export function openOutbox(store: Store): Outbox {
  const events = store.table('outbox', eventCodec)
  const state = store.table('outbox-state', textCodec)
  const keyOf = (seq: number): string[] => [String(seq).padStart(DIGITS, '0')]
  return {
    append(event) {
      if (!state.has(['uuid'])) state.put(['uuid'], randomUUID())
      const seq = Number(state.get(['last']) ?? 0) + 1
      state.put(['last'], String(seq))
      events.put(keyOf(seq), event)
      return seq
    },
    pending(limit, after = 0) {
      const uuid = state.get(['uuid']) ?? ''
      return Array.from(events.list({ after: keyOf(after), limit }), ({ key, value }) => {
        const seq = Number(key[0])
        return { ...value, id: `${uuid}:${seq}`, seq }
      })
    },
    behind(after) {
      const [first] = events.list({ after: keyOf(after), limit: 1 })
      return first === undefined ? 0 : Number(state.get(['last'])) - Number(first.key[0]) + 1
    },
    removeThrough: (seq) =>
      store.write(() => {
        for (const { key } of events.list()) {
          if (Number(key[0]) > seq) return
          events.remove(key)
        }
      }),
  }
}

const textCodec: Codec<string> = {
  encode: (text) => Buffer.from(text),
  decode: (bytes) => Buffer.from(bytes).toString(),
}

const eventCodec: Codec<OutboxEvent> = {
  encode: ({ namespace, topic, envelope }) => Buffer.concat([Buffer.from(`${namespace}\0${topic}\0`), envelope]),
  decode(bytes) {
    const first = bytes.indexOf(0)
    const second = bytes.indexOf(0, first + 1)
    const text = Buffer.from(bytes.subarray(0, second)).toString()
    return { namespace: text.slice(0, first), topic: text.slice(first + 1), envelope: bytes.subarray(second + 1) }
  },
}
