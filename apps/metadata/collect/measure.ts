import type { Snapshots } from '@gantry/api/containerd/services/snapshots/v1/snapshots_pb'
import { isFault } from '@gantry/model/fault'
import type { Client } from '@gantry/rpc/client'
import type { Node } from '@gantry/service/collection'

const KIND = 'snapshots/'
const ALL_MS = 10_000
const AT_ONCE = 2 // each walks a tree

/** The bytes of those that were measured in time; nothing for what is gone. */
export type Sizes = ReadonlyMap<Node, bigint>

/** A snapshot without a size in its record: it is open, or has nothing. */
export function isUnmeasured({ thing, size }: Node): boolean {
  return size === 0n && thing.kind.startsWith(KIND)
}

/** What open snapshots take by now. Those that ten seconds are not enough for are missing. */
export async function measure(
  nodes: Iterable<Node>,
  snapshots: Pick<Client<typeof Snapshots>, 'usage'>,
  signal: AbortSignal,
): Promise<Sizes> {
  const sizes = new Map<Node, bigint>()
  const enough = AbortSignal.any([signal, AbortSignal.timeout(ALL_MS)])
  const left = Iterator.from(nodes).filter(isUnmeasured)
  const work = async (): Promise<void> => {
    for (const node of left) {
      if (enough.aborted) return
      const { namespace, kind, id } = node.thing
      const call = snapshots.usage({ snapshotter: kind.slice(KIND.length), key: id }, { namespace, signal: enough })
      const size = await call.then(
        (usage) => usage.size,
        (error: unknown) => (isFault(error, 'not-found') ? 0n : undefined),
      )
      if (size !== undefined) sizes.set(node, size)
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, work))
  signal.throwIfAborted()
  return sizes
}
