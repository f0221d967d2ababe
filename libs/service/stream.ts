import { DiscardPolicy, type JetStreamManager, NatsError, nanos, RetentionPolicy, StorageType } from 'nats'
import type { NatsConfig } from './config.ts'
import { EVENT_SUBJECTS } from './topic.ts'

/** The name of the event log on the server. */
export const STREAM = 'GANTRY_EVENTS'

const HOUR_MS = 3_600_000
const NAME_IN_USE = 10058 // the server's code for "exists with another configuration"

/** Makes the event log, or gives the one that is there the configured limits. Safe to repeat and to race. */
export async function ensureStream(manager: JetStreamManager, limits: NatsConfig): Promise<void> {
  await ensureLog(manager, { name: STREAM, subject: EVENT_SUBJECTS, ...limits })
}

/** A log and its limits: hours and bytes. */
export interface LogSpec {
  readonly name: string
  readonly subject: string
  readonly maxAgeH: number
  readonly maxBytes: number
}

/** The same for any log. */
export async function ensureLog(
  manager: JetStreamManager,
  { name, subject, maxAgeH, maxBytes }: LogSpec,
): Promise<void> {
  const wanted = {
    subjects: [subject],
    max_age: nanos(maxAgeH * HOUR_MS),
    max_bytes: maxBytes,
    discard: DiscardPolicy.Old,
    duplicate_window: nanos(HOUR_MS),
    allow_direct: true,
  }
  try {
    await manager.streams.add({
      name,
      ...wanted,
      storage: StorageType.File,
      retention: RetentionPolicy.Limits,
      num_replicas: 1,
    })
  } catch (error) {
    if (!(error instanceof NatsError) || error.api_error?.err_code !== NAME_IN_USE) throw error
    await manager.streams.update(name, wanted)
  }
}
