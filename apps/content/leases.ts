import { createHash } from 'node:crypto'
import { Leases as LeasesService } from '@gantry/api/containerd/services/leases/v1/leases_pb'
import type { Digest } from '@gantry/model/digest'
import { ignoring } from '@gantry/model/fault'
import type { Namespace } from '@gantry/model/namespace'
import { type Channel, clientOf } from '@gantry/rpc/client'
import type { Log } from '@gantry/rpc/log'

const EXPIRE = 'containerd.io/gc.expire'
const DAY_MS = 24 * 3600 * 1000
const CLEANUP_MS = 5000 // for what has to happen although the call is over

/** Something a lease can hold on to. */
export type Leased = { readonly content: Digest } | { readonly ingest: string }

/** The lease of a call, if it has one, and whose it is. */
export interface Holder {
  readonly namespace: Namespace
  readonly lease: string | undefined
  /** It may have no blob of another namespace just for knowing its digest. */
  readonly isolated?: boolean
}

/** Leases are kept by `metadata`; these are the few things content asks of it. Without a lease nothing happens. */
export interface Leases {
  /** Call it before the thing exists. @throws {Fault} `not-found` when the lease is gone */
  add(holder: Holder, thing: Leased, signal: AbortSignal): Promise<void>
  /** The same for many blobs. */
  hold(holder: Holder, digests: readonly Digest[], signal: AbortSignal): Promise<void>
  /** Never fails: a lease that holds what is gone does no harm. */
  remove(holder: Holder, thing: Leased): Promise<void>
  /** A lease for a day, for a call that came without one; disposing gives it back. */
  create(namespace: Namespace, signal: AbortSignal): Promise<OwnLease>
  /**
   * The lease for a purpose: the same one for all who want it at once, given back by the last of them. One that a crash
   * left behind is gone on with, and what it holds stays held until then; one that expires within half a day is left
   * beside a new one, for leases cannot be renewed.
   */
  take(namespace: Namespace, purpose: string, signal: AbortSignal): Promise<OwnLease>
}

interface OwnLease extends AsyncDisposable {
  readonly id: string
}

interface Taken {
  users: number
  /** All that have to be given back. */
  readonly ids: Set<string>
  ready: Promise<unknown>
}

export function createLeases(metadata: Channel, log: Log): Leases {
  const client = clientOf(LeasesService, metadata)
  const quietly = async (what: string, work: Promise<unknown>): Promise<void> => {
    await work.catch((error: unknown) => log.debug({ err: error }, what))
  }
  const taken = new Map<string, Taken>()
  const make = async (namespace: Namespace, id: string, signal: AbortSignal): Promise<string> => {
    const labels = { [EXPIRE]: new Date(Date.now() + DAY_MS).toISOString() }
    const { lease } = await client.create({ id, labels }, { namespace, signal })
    return lease?.id ?? ''
  }
  const makeOrFind = async (namespace: Namespace, id: string, signal: AbortSignal): Promise<string> => {
    const made = await ignoring('already-exists', make(namespace, id, signal))
    if (made !== undefined) return made
    const { leases } = await client.list({ filters: [`id==${id}`] }, { namespace, signal })
    const untilMs = Date.parse(leases[0]?.labels[EXPIRE] ?? '')
    return untilMs - Date.now() > DAY_MS / 2 ? id : await make(namespace, '', signal)
  }
  const giveBack = (namespace: Namespace, id: string): Promise<void> =>
    quietly(
      'A lease is left to its expiry',
      client.delete({ id }, { namespace, signal: AbortSignal.timeout(CLEANUP_MS) }),
    )
  const add: Leases['add'] = async ({ namespace, lease }, thing, signal) => {
    if (lease !== undefined) await client.addResource({ id: lease, resource: toWire(thing) }, { namespace, signal })
  }
  return {
    add,
    async hold(holder, digests, signal) {
      await Promise.all([...new Set(digests)].map((content) => add(holder, { content }, signal)))
    },
    async remove({ namespace, lease }, thing) {
      if (lease === undefined) return
      const signal = AbortSignal.timeout(CLEANUP_MS)
      const request = { id: lease, resource: toWire(thing) }
      await quietly('A lease still holds something that is gone', client.deleteResource(request, { namespace, signal }))
    },
    async create(namespace, signal) {
      const id = await make(namespace, '', signal)
      return { id, [Symbol.asyncDispose]: () => giveBack(namespace, id) }
    },
    async take(namespace, purpose, signal) {
      const id = `gantry-${createHash('sha256').update(purpose).digest('hex').slice(0, 32)}`
      const key = `${namespace}/${id}`
      const lease = taken.get(key) ?? { users: 0, ids: new Set([id]), ready: Promise.resolve() }
      taken.set(key, lease)
      lease.users++
      // one after the other: what one gives back must not be what the next one has just been told exists
      const ready = lease.ready.then(() => makeOrFind(namespace, id, signal))
      lease.ready = ready.catch(() => undefined)
      const leave = async (): Promise<void> => {
        lease.users--
        if (lease.users > 0) return
        lease.ready = lease.ready.then(async () => {
          if (lease.users === 0) await Promise.all([...lease.ids].map((one) => giveBack(namespace, one)))
          if (lease.users === 0) taken.delete(key)
        })
        await lease.ready
      }
      try {
        const mine = await ready
        lease.ids.add(mine)
        return { id: mine, [Symbol.asyncDispose]: leave }
      } catch (error) {
        await leave()
        throw error
      }
    },
  }
}

function toWire(thing: Leased): { type: string; id: string } {
  return 'content' in thing ? { type: 'content', id: thing.content } : { type: 'ingests', id: thing.ingest }
}
