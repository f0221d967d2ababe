import type { Diff } from '@gantry/api/containerd/services/diff/v1/diff_pb'
import { MEDIA } from '@gantry/model/descriptor'
import { parseDigest } from '@gantry/model/digest'
import { Fault } from '@gantry/model/fault'
import { type Implementation, unimplemented } from '@gantry/rpc/service'
import type { Apply } from './diff/apply.ts'

/** containerd.services.diff.v1.Diff: parse the request, apply, shape the reply. */
export function diffService(apply: Apply): Implementation<typeof Diff> {
  return {
    async apply({ diff, mounts, syncFs }, { namespace, signal }) {
      if (!diff) throw new Fault('invalid-argument', 'Cannot apply a layer: none is named')
      const blob = { digest: parseDigest(diff.digest), mediaType: diff.mediaType }
      const { digest, size } = await apply({ namespace, blob, mounts, sync: syncFs, measure: false }, signal)
      return { applied: { mediaType: MEDIA.ociLayer, digest, size } }
    },

    diff: unimplemented('Packing the difference of two snapshots'),
  }
}
