import { Namespaces } from '@gantry/api/containerd/services/namespaces/v1/namespace_pb'
import type { Digest } from '@gantry/model/digest'
import { ignoring } from '@gantry/model/fault'
import { type Channel, clientOf } from '@gantry/rpc/client'
import { holdersOf, type Rows } from './blobs/rows.ts'

const SHAREABLE = 'containerd.io/namespace.shareable'

/**
 * Says whether a namespace may have a blob just for knowing its digest: always where blobs are shared, else only one of
 * a namespace that its labels open to all (behaviour facts, 5.3). An isolated caller never has the first of these.
 */
export function sharePolicy(policy: 'shared' | 'isolated', rows: Rows, metadata: Channel) {
  const namespaces = clientOf(Namespaces, metadata)
  return async (digest: Digest, isolated: boolean, signal: AbortSignal): Promise<boolean> => {
    if (policy === 'shared' && !isolated) return true
    for (const name of holdersOf(rows, digest)) {
      const found = await ignoring('not-found', namespaces.get({ name }, { signal }))
      if (found?.namespace?.labels[SHAREABLE] === 'true') return true
    }
    return false
  }
}
