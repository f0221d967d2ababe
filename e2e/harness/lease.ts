/** What nothing refers to is collected within a second, by containerd too; `ctr` cannot work under a lease, so tests ask for one here. */
import { Leases } from '@gantry/api/containerd/services/leases/v1/leases_pb'
import { clientOf, connect } from '@gantry/rpc/client'
import type { Target } from './target.ts'

/**
 * Keeps things of the target's namespace from collection, whether they are there yet or not, until it is disposed of.
 *
 * @param ids digests for `content`, keys for `snapshots/<snapshotter>`
 */
export async function hold(
  target: Pick<Target, 'address' | 'namespace'>,
  type: 'content' | `snapshots/${string}`,
  ids: readonly string[],
): Promise<AsyncDisposable> {
  const channel = connect(target.address)
  const leases = clientOf(Leases, channel)
  const call = () => ({ namespace: target.namespace, signal: AbortSignal.timeout(20_000) })
  const { lease } = await leases.create({}, call())
  const id = lease?.id ?? ''
  for (const resource of ids) await leases.addResource({ id, resource: { id: resource, type } }, call())
  return {
    async [Symbol.asyncDispose]() {
      await leases.delete({ id }, call())
      await channel[Symbol.asyncDispose]()
    },
  }
}
