import type { Wire } from './wire.ts'

const EXPIRES_MS = 24 * 60 * 60 * 1000 // should this process die before it lets go
const RELEASE_MS = 10_000
const EXPIRE_LABEL = 'containerd.io/gc.expire'

export interface Lease extends AsyncDisposable {
  /** Known once the server has made it. */
  readonly id: Promise<string>
}

/** Takes a lease: what is made under it stays until it is disposed, even though nothing refers to it yet. */
export function openLease(wire: Wire, signal: AbortSignal): Lease {
  const { leases } = wire.services
  const labels = { [EXPIRE_LABEL]: new Date(Date.now() + EXPIRES_MS).toISOString() }
  const id = leases.create({ labels }, wire.call(signal)).then(({ lease }) => lease?.id ?? '')
  id.catch(() => undefined) // whoever awaits it hears of a failure
  return {
    id,
    // one that was never made or cannot be let go expires by itself: failing for it would only hide a better error
    async [Symbol.asyncDispose]() {
      await id
        .then((made) => leases.delete({ id: made }, wire.call(AbortSignal.timeout(RELEASE_MS))))
        .catch(() => undefined)
    },
  }
}
