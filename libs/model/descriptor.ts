import type { Digest } from './digest.ts'
import type { Platform } from './platform.ts'

/** Names a blob: what it is, what its bytes hash to, how many bytes there are. */
export interface Descriptor {
  readonly mediaType: string
  readonly digest: Digest
  readonly size: bigint
  readonly annotations?: Readonly<Record<string, string>>
  readonly platform?: Platform
  readonly urls?: readonly string[]
  readonly artifactType?: string
}

export const MEDIA = {
  ociIndex: 'application/vnd.oci.image.index.v1+json',
  ociManifest: 'application/vnd.oci.image.manifest.v1+json',
  ociConfig: 'application/vnd.oci.image.config.v1+json',
  ociLayer: 'application/vnd.oci.image.layer.v1.tar',
  ociLayerGzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  ociLayerZstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
  dockerIndex: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerConfig: 'application/vnd.docker.container.image.v1+json',
  dockerLayer: 'application/vnd.docker.image.rootfs.diff.tar',
  dockerLayerGzip: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
  dockerForeignLayer: 'application/vnd.docker.image.rootfs.foreign.diff.tar',
  dockerForeignLayerGzip: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
  inToto: 'application/vnd.in-toto+json',
} as const

type Typed = Pick<Descriptor, 'mediaType'> | string

export function isIndex(of: Typed): boolean {
  return among(of, [MEDIA.ociIndex, MEDIA.dockerIndex])
}

export function isManifest(of: Typed): boolean {
  return among(of, [MEDIA.ociManifest, MEDIA.dockerManifest])
}

/** OCI layers of every kind, also encrypted or with a compression we do not know, and Docker's. */
export function isLayer(of: Typed): boolean {
  const type = mediaTypeOf(of)
  return type.startsWith('application/vnd.oci.image.layer.') || type.startsWith('application/vnd.docker.image.rootfs.')
}

export function isConfig(of: Typed): boolean {
  return among(of, [MEDIA.ociConfig, MEDIA.dockerConfig])
}

/** A statement about an image, kept beside it and never unpacked. */
export function isAttestation(of: Typed): boolean {
  return among(of, [MEDIA.inToto])
}

function among(of: Typed, types: readonly string[]): boolean {
  return types.includes(mediaTypeOf(of))
}

function mediaTypeOf(of: Typed): string {
  return typeof of === 'string' ? of : of.mediaType
}
