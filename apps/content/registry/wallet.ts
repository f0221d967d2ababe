import { createHash } from 'node:crypto'
import type { Found } from '@gantry/client/credentials'
import { abortable } from '@gantry/service/abortable'

const MAX_HOSTS = 1024 // remembered at the same time
const ASK_MS = 60_000 // for what the service has, whoever waits for it
const SERVICE_MS = 30_000 // how long the service remembers what its own files say

/** Whose credentials are meant. */
export interface Owner {
  /** The host in lower case, with the port when there is one. */
  readonly host: string
  /** Is it the host of the reference? Only that one may be given what a client sends. */
  readonly own: boolean
}

export type FindCredentials = (host: string, signal: AbortSignal) => Promise<Found | undefined>

/** The credentials that one client, or the service itself, has. Each is asked for once a host. */
export interface Wallet {
  /** Undefined: nobody has been asked yet, or there are none. */
  known(owner: Owner): Found | 'none' | undefined
  find(owner: Owner, signal: AbortSignal): Promise<Found | undefined>
}

export const NO_CREDENTIALS: Wallet = { known: () => 'none', find: async () => undefined }

/**
 * What the service itself has. It is asked again after a while, so that a change of its files counts, and once for all who
 * want it then: a helper may ask somebody far away.
 */
export function createServiceWallet(find: FindCredentials, now: () => number): Wallet {
  const kept = new Map<string, { readonly found: Found | undefined; readonly untilMs: number }>()
  const asking = new Map<string, Promise<Found | undefined>>()
  const fresh = (host: string) => {
    const entry = kept.get(host)
    return entry && entry.untilMs > now() ? entry : undefined
  }
  const ask = async (host: string): Promise<Found | undefined> => {
    const found = await find(host, AbortSignal.timeout(ASK_MS)) // it goes on when one of those who wait is gone
    if (kept.size >= MAX_HOSTS) kept.clear()
    kept.set(host, { found, untilMs: now() + SERVICE_MS })
    return found
  }
  return {
    known({ host }) {
      const entry = fresh(host)
      return entry && (entry.found ?? 'none')
    },
    async find({ host }, signal) {
      const entry = fresh(host)
      if (entry) return entry.found
      const asked = asking.get(host) ?? ask(host).finally(() => asking.delete(host))
      asking.set(host, asked)
      return await abortable(asked, signal)
    },
  }
}

/**
 * What a client sends when it is asked, for the host of its reference only; else, and for mirrors, what the service has.
 * One for each transfer.
 */
export function createClientWallet(ask: FindCredentials, service: Wallet): Wallet {
  const kept = new Map<string, { readonly found: Found | undefined }>()
  const asking = new Map<string, Promise<Found | undefined>>()
  const once = (host: string, signal: AbortSignal): Promise<Found | undefined> => {
    const running = asking.get(host) ?? ask(host, signal)
    asking.set(host, running)
    return running
  }
  return {
    known(owner) {
      if (!owner.own) return service.known(owner)
      const entry = kept.get(owner.host)
      return entry && (entry.found ?? 'none')
    },
    async find(owner, signal) {
      if (!owner.own) return await service.find(owner, signal)
      const found = (await once(owner.host, signal)) ?? (await service.find(owner, signal))
      kept.set(owner.host, { found })
      return found
    },
  }
}

/** Tells credentials apart without showing them: what one user was let in with serves no other. */
export function identityOf(found: Found | undefined): string {
  if (!found) return 'anybody'
  return createHash('sha256').update(`${found.username}\0${found.secret}`).digest('base64')
}
