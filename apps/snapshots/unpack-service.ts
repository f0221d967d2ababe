import { Phase, type Unpack as UnpackProto } from '@gantry/api/gantry/snapshots/v1/unpack_pb'
import { parseDigest } from '@gantry/model/digest'
import { Fault } from '@gantry/model/fault'
import type { Implementation } from '@gantry/rpc/service'
import { hintsOf } from './hints.ts'
import type { Progress, Unpack } from './unpack.ts'
import type { Address } from './wire.ts'

const MAX_LAYERS = 512 // overlay itself takes fewer

const PHASES = {
  extracting: Phase.EXTRACTING,
  extracted: Phase.EXTRACTED,
  exists: Phase.EXISTS,
} as const satisfies Record<Progress['phase'], Phase>

/** gantry.snapshots.v1.Unpack: parse the request, unpack, tell how it goes. */
export function unpackService(unpack: Unpack, address: Address): Implementation<typeof UnpackProto> {
  return {
    async *unpack(request, context) {
      const { snapshotter, layers } = request
      const { scope, call } = address(context, snapshotter)
      if (layers.length > MAX_LAYERS)
        throw new Fault('resource-exhausted', `Cannot unpack ${layers.length} layers: ${MAX_LAYERS} is the most`)
      const chain = layers.map(({ blob, diffId }, at) => {
        if (!blob) throw new Fault('invalid-argument', 'Cannot unpack a layer: it has no descriptor')
        return {
          blob: { digest: parseDigest(blob.digest), mediaType: blob.mediaType },
          diffId: parseDigest(diffId),
          hints: hintsOf(request, at),
        }
      })
      for await (const { layer, phase, chainId } of unpack(scope, chain, call))
        yield { layer, phase: PHASES[phase], chainId }
    },
  }
}
