import type { Holder } from './leases.ts'

/**
 * Who holds what a transfer brings: the lease of its call or, when that came without one, a lease of its own, which is
 * given back when the transfer is over, however it ends.
 */
export async function held(
  { lease, ...call }: Holder,
  take: () => Promise<AsyncDisposable & { readonly id: string }>,
): Promise<Holder & AsyncDisposable> {
  const own = lease === undefined ? await take() : undefined
  return {
    ...call,
    lease: lease ?? own?.id,
    async [Symbol.asyncDispose]() {
      await own?.[Symbol.asyncDispose]()
    },
  }
}
