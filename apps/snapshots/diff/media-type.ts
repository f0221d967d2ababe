import { MEDIA } from '@gantry/model/descriptor'
import { Fault } from '@gantry/model/fault'

/** Media types of layers whose bytes say how they are compressed, if at all. */
const DETECT = [
  MEDIA.dockerLayer,
  MEDIA.dockerLayerGzip,
  `${MEDIA.dockerLayer}.zstd`,
  MEDIA.dockerForeignLayer,
  MEDIA.dockerForeignLayerGzip,
  `${MEDIA.dockerForeignLayer}.zstd`,
  MEDIA.ociLayerGzip,
  MEDIA.ociLayerZstd,
  'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
  'application/vnd.oci.image.layer.nondistributable.v1.tar+zstd',
]
/** Media types that promise a plain archive. */
const PLAIN: readonly string[] = [MEDIA.ociLayer, 'application/vnd.oci.image.layer.nondistributable.v1.tar']

/**
 * Shall the codec of a layer be detected from its first bytes? The media type decides only that; which codec it names is
 * wrong too often to be believed.
 * @throws {Fault} `unknown`, as containerd, for a type that no step here turns into a plain archive
 */
export function detectsCodec(mediaType: string): boolean {
  if (DETECT.includes(mediaType)) return true
  if (PLAIN.includes(mediaType)) return false
  throw new Fault(
    'unknown',
    `Cannot apply the layer: no processor for media type ${JSON.stringify(mediaType.slice(0, 200))}`,
  )
}
