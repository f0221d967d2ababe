import { abortable } from './abortable.ts'
import type { Link, Session } from './link.ts'
import { pull } from './pull.ts'
import { ensureLog, type LogSpec } from './stream.ts'

/** A log beside that of events: what is appended stays until its limits. */
export interface Journal {
  /**
   * Resolves when the log has it. While the server is away it waits.
   *
   * @param id the same id is appended once within an hour: what failed may be sent again
   * @throws {Fault} `unavailable` when the log did not confirm it
   */
  append(id: string, data: Uint8Array, signal: AbortSignal): Promise<void>
  /**
   * What was appended since a time, in order, up to what is there now.
   *
   * @throws {Error} when the connection breaks meanwhile
   */
  read(since: Date, signal: AbortSignal): AsyncIterable<Uint8Array>
}

export function createJournal(link: Link, spec: LogSpec): Journal {
  const ensured = new WeakMap<Session, Promise<void>>()

  async function ready(signal: AbortSignal): Promise<Session> {
    const session = await link.next(signal)
    const made = ensured.get(session) ?? ensureLog(session.manager, spec)
    ensured.set(session, made)
    made.catch(() => ensured.delete(session))
    await abortable(made, signal)
    return session
  }

  return {
    async append(id, data, signal) {
      const session = await ready(signal)
      await session.append({ log: spec.name, subject: spec.subject, id, data })
    },
    async *read(since, signal) {
      const session = await ready(signal)
      const { state } = await abortable(session.manager.streams.info(spec.name), signal)
      if (state.messages === 0 || new Date(state.last_ts) < since) return
      for await (const { sequence, envelope } of pull(session, { start: since, stream: spec.name }, signal)) {
        yield envelope
        if (sequence >= state.last_seq) return
      }
    },
  }
}
