import { setTimeout as sleep } from 'node:timers/promises'
import { type Namespace, parseNamespace } from '@gantry/model/namespace'
import type { Log } from '@gantry/rpc/log'
import type { Ingests, Parts } from './ingests.ts'
import type { Ingest } from './rows.ts'

const EVERY_MS = 10 * 60 * 1000
const DAY_MS = 24 * 3600 * 1000

type ExpiryParts = Pick<Parts, 'rows' | 'folder' | 'changes' | 'leases' | 'now'> & Pick<Ingests, 'isBusy'>

/** Drops uploads that nobody will go on with, at once and then every ten minutes, until it is disposed. */
export function startExpiry(parts: ExpiryParts, log: Log): AsyncDisposable {
  const stop = new AbortController()
  async function run(): Promise<void> {
    while (!stop.signal.aborted) {
      await expireIngests(parts, stop.signal).catch((error: unknown) => {
        if (!stop.signal.aborted) log.debug({ err: error }, 'Uploads are not dropped now: the next round tries again')
      })
      await sleep(EVERY_MS, undefined, { signal: stop.signal, ref: false }).catch(() => undefined)
    }
  }
  const running = run()
  return {
    async [Symbol.asyncDispose]() {
      stop.abort()
      await running
    },
  }
}

/**
 * Drops every upload that has expired, that no writer is at and that no lease holds. One that came with a lease expires a
 * day after it began, once that lease is gone. Returns how many went.
 *
 * @throws {Fault} `unavailable` when nobody can say which leases there are: then nothing is dropped
 * @see behaviour facts, 5.3
 */
export async function expireIngests(parts: ExpiryParts, signal: AbortSignal): Promise<number> {
  const { rows, leases, now } = parts
  let dropped = 0
  for (const { key, value } of [...rows.ingests.list()]) {
    const [namespace, ref] = [parseNamespace(key[0] ?? ''), key[1] ?? '']
    if (expiryOf(value) > now() || parts.isBusy(namespace, ref)) continue
    if (await leases.isHeld(namespace, { ingest: ref }, signal)) continue
    if (await drop(parts, { namespace, ref, ingest: value })) dropped++
  }
  return dropped
}

function expiryOf({ expiresAtMs, startedAtMs }: Ingest): number {
  return expiresAtMs ?? startedAtMs + DAY_MS
}

interface Expired {
  readonly namespace: Namespace
  readonly ref: string
  readonly ingest: Ingest
}

/** The name first, unless somebody went on with the upload while the leases were looked at; then the bytes. */
async function drop(parts: ExpiryParts, { namespace, ref, ingest }: Expired): Promise<boolean> {
  const { rows, folder, changes, now } = parts
  const gone = await changes.write(() => {
    const found = rows.ingests.get([namespace, ref])
    if (found?.id !== ingest.id || expiryOf(found) > now() || parts.isBusy(namespace, ref)) return false
    rows.ingests.remove([namespace, ref])
    return true
  })
  if (gone) await folder.dropIngest(ingest.id)
  return gone
}
