import { create, type DescMessage, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { EnvelopeSchema } from '@gantry/api/containerd/types/event_pb'
import { toTimestamp } from '@gantry/model/clock'
import { Fault } from '@gantry/model/fault'
import type { Metrics } from '@gantry/model/metric'
import { openOutbox } from '@gantry/store/outbox'
import type { Store } from '@gantry/store/store'
import type { Logger } from 'pino'
import { type Bus, MAX_EVENT_BYTES } from './bus.ts'
import { createPublisher } from './publisher.ts'
import { subjectOf } from './topic.ts'

const MAX_TOPICS = 64

/**
 * Says that something happened, as part of the write that makes it happen.
 *
 * @param topic such as `/images/create`
 * @throws {Fault} `invalid-argument` for a bad namespace or topic, `resource-exhausted` for an event past 1 MB
 */
export type Emit = <S extends DescMessage>(
  namespace: string,
  topic: string,
  schema: S,
  init: MessageInitShape<S>,
) => void

/** Writes records together with the events that stand for the change: both are stored or neither. */
export interface Changes extends AsyncDisposable {
  /**
   * One transaction of the store; events reach the log in the order of the writes. Resolves with the result of `fn` once
   * the change is on disk and the log has its events; at once when the bus is down, and when it is so slow that a write
   * has waited two seconds in vain: the events then follow later, also after a crash. With `stored` it does not wait for the log at all: for those whom
   * others wait for.
   */
  write<T>(fn: (emit: Emit) => T, until?: 'logged' | 'stored'): Promise<T>
}

export interface OpenChanges extends Changes {
  /** Events that are stored and not in the log yet. */
  readonly behind: () => number
}

interface ChangesParts {
  readonly store: Store
  readonly bus: Bus
  readonly log: Logger
  readonly metrics?: Metrics
}

export function openChanges({ store, bus, log, metrics }: ChangesParts): OpenChanges {
  const outbox = openOutbox(store)
  const publisher = createPublisher({ outbox, bus, log })
  const { behind } = publisher
  metrics?.read('gauge', { name: 'gantry_events_behind', help: 'Events that are not in the log yet.' }, behind)
  const count = metrics && countTopics(metrics)
  return {
    behind,
    async write(fn, until = 'logged') {
      let last = 0
      const topics: string[] = []
      const result = await store.write(() =>
        fn((namespace, topic, schema, init) => {
          last = outbox.append({ namespace, topic, envelope: envelopeOf(namespace, topic, schema, init) })
          topics.push(topic)
        }),
      )
      if (count) topics.forEach(count)
      if (last > 0) {
        const delivered = publisher.delivered(last)
        if (until === 'logged') await delivered
      }
      return result
    },
    [Symbol.asyncDispose]: () => publisher.close(),
  }
}

/** Shims publish under topics of their own: only so many are told apart. */
function countTopics(metrics: Metrics): (topic: string) => void {
  const about = { name: 'gantry_events_total', help: 'Events that were stored, by topic.', labels: ['topic'] }
  const total = metrics.counter(about)
  const known = new Set<string>()
  return (topic) => {
    if (known.size < MAX_TOPICS) known.add(topic)
    total(known.has(topic) ? topic : 'other').add()
  }
}

function envelopeOf<S extends DescMessage>(
  namespace: string,
  topic: string,
  schema: S,
  init: MessageInitShape<S>,
): Uint8Array {
  subjectOf(namespace, topic) // refuses what could not be published
  const envelope = toBinary(
    EnvelopeSchema,
    create(EnvelopeSchema, {
      timestamp: toTimestamp(new Date()),
      namespace,
      topic,
      event: { typeUrl: schema.typeName, value: toBinary(schema, create(schema, init)) },
    }),
  )
  if (envelope.length > MAX_EVENT_BYTES)
    throw new Fault('resource-exhausted', `Cannot announce ${topic}: the event has ${envelope.length} bytes`)
  return envelope
}
