import type { Diff } from '@gantry/api/containerd/services/diff/v1/diff_pb'
import { toNanoseconds } from '@gantry/model/clock'
import { MEDIA } from '@gantry/model/descriptor'
import { parseDigest } from '@gantry/model/digest'
import { Fault } from '@gantry/model/fault'
import type { Implementation } from '@gantry/rpc/service'
import type { Apply } from './diff/apply.ts'
import type { Diff as MakeDiff } from './diff/diff.ts'
import { fromWire } from './wire.ts'

interface DiffServiceParts {
  readonly apply: Apply
  readonly diff: MakeDiff
}

/** containerd.services.diff.v1.Diff: parse the request, apply or pack, shape the reply. */
export function diffService({ apply, diff: makeDiff }: DiffServiceParts): Implementation<typeof Diff> {
  return {
    async apply({ diff, payloads, syncFs, ...request }, { namespace, signal }) {
      if (!diff) throw new Fault('invalid-argument', 'Cannot apply a layer: none is named')
      const blob = { digest: parseDigest(diff.digest), mediaType: diff.mediaType }
      const mounts = request.mounts.map(fromWire)
      const { digest, size } = await apply({ namespace, blob, mounts, sync: syncFs, measure: false, payloads }, signal)
      return { applied: { mediaType: MEDIA.ociLayer, digest, size } }
    },

    async diff({ mediaType, ref, labels, sourceDateEpoch, ...sides }, { namespace, lease, signal }) {
      const latest = sourceDateEpoch && toNanoseconds(sourceDateEpoch)
      const [left, right] = [sides.left.map(fromWire), sides.right.map(fromWire)]
      const what = { namespace, left, right, mediaType, ref, labels, latest }
      return { diff: await makeDiff(what, { lease, signal }) }
    },
  }
}
