import type { Wire } from './wire.ts'

const EXPIRES_MS = 24 * 60 * 60 * 1000 // should this process die before it lets go
const RELEASE_MS = 10_000
const EXPIRE_LABEL = 'containerd.io/gc.expire'

export interface Lease extends AsyncDisposable {
  readonly id: string
}

/** Takes a lease: what is made under it stays until it is disposed, even though nothing refers to it yet. */
export async function openLease(wire: Wire, signal: AbortSignal): Promise<Lease> {
  const { leases } = wire.services
  const expires = new Date(Date.now() + EXPIRES_MS).toISOString()
  const { lease } = await leases.create({ labels: { [EXPIRE_LABEL]: expires } }, wire.call(signal))
  const id = lease?.id ?? ''
  return {
    id,
    // a lease that cannot be let go expires by itself, so failing for it would only hide a better error
    async [Symbol.asyncDispose]() {
      await leases.delete({ id }, wire.call(AbortSignal.timeout(RELEASE_MS))).catch(() => undefined)
    },
  }
}
