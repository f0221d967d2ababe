import type { Holding, Owner } from '@gantry/api/gantry/owner/v1/owner_pb'
import { isFault } from '@gantry/model/fault'
import type { Client } from '@gantry/rpc/client'

/** How long a listing waits for an owner that does not answer, in ms: it can do without. */
const SKIP_MS = 500
/** How long a decision waits for one, in ms. */
const DECIDE_MS = 5000

/** The part of a log that is needed here. */
export interface Log {
  warn(fields: object, message: string): void
}

/** The other processes that keep things in namespaces. */
export interface Owners {
  /** What those hold that can be reached; the others are skipped and logged. */
  reachable(signal: AbortSignal): Promise<Holding[]>
  /** What all of them hold. @throws {Fault} `unavailable` when one of them cannot be asked */
  all(signal: AbortSignal): Promise<Holding[]>
}

/** @param clients the owners by name; the name is for the log */
export function createOwners(clients: Readonly<Record<string, Client<typeof Owner>>>, log: Log): Owners {
  const ask = async (client: Client<typeof Owner>, waitMs: number, signal: AbortSignal): Promise<Holding[]> =>
    (await client.holdings({}, { signal, waitMs, timeoutMs: waitMs })).holdings
  return {
    async reachable(signal) {
      const answers = Object.entries(clients).map(async ([owner, client]) => {
        try {
          return await ask(client, SKIP_MS, signal)
        } catch (error) {
          if (signal.aborted || !isFault(error)) throw error
          log.warn({ owner, reason: error.message }, 'Skipped an owner that cannot be asked what it holds')
          return []
        }
      })
      return (await Promise.all(answers)).flat()
    },

    async all(signal) {
      return (await Promise.all(Object.values(clients).map((client) => ask(client, DECIDE_MS, signal)))).flat()
    },
  }
}
