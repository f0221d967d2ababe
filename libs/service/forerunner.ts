import { createHash, randomUUID } from 'node:crypto'
import type { JetStreamManager } from 'nats'
import { STREAM } from './stream.ts'

/**
 * Somebody who reads the log and would go on with the next process when this one is killed. The server keeps a consumer that
 * nobody asks any more for a while, with the last event that was confirmed as handed out; the next process finds it by the
 * name of its reader.
 */
export interface Reader {
  /** A name for the consumer that it reads through now. */
  consumer(): string
  /** The first event that those before it are not known to have handed out, or undefined when there were none. */
  goOnAt(manager: JetStreamManager): Promise<number | undefined>
  /** It has a consumer of its own: those that it goes on for are removed. */
  took(manager: JetStreamManager): void
}

/**
 * @param name     the same in each process for the same reader: anything
 * @param searches whether there can be any before it
 */
export function readerNamed(name: string, searches: boolean): Reader {
  const prefix = `reader-${createHash('sha256').update(name).digest('hex').slice(0, 32)}-`
  let found: string[] = []
  return {
    consumer: () => `${prefix}${randomUUID()}`,
    async goOnAt(manager) {
      found = []
      let next: number | undefined
      if (!searches) return next
      for await (const { name, num_waiting: requests, ack_floor: confirmed } of manager.consumers.list(STREAM)) {
        if (!name.startsWith(prefix) || requests > 0) continue // another's, or alive
        found.push(name)
        next = Math.min(next ?? Number.POSITIVE_INFINITY, confirmed.stream_seq + 1)
      }
      return next
    },
    took(manager) {
      for (const name of found.splice(0)) manager.consumers.delete(STREAM, name).catch(() => {}) // or it goes by itself
    },
  }
}
