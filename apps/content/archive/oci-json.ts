import type { Descriptor } from '@gantry/model/descriptor'

/** A descriptor as OCI documents spell it, in the order and with the gaps in which Go writes it: the digests depend on it. */
export function descriptorJson({ mediaType, digest, size, annotations, platform, urls, artifactType }: Descriptor) {
  return {
    mediaType,
    digest,
    size: Number(size),
    ...(urls?.length ? { urls } : {}),
    ...(annotations && Object.keys(annotations).length > 0 ? { annotations: sorted(annotations) } : {}),
    ...(platform
      ? {
          platform: {
            architecture: platform.architecture,
            os: platform.os,
            ...(platform.osVersion ? { 'os.version': platform.osVersion } : {}),
            ...(platform.osFeatures?.length ? { 'os.features': platform.osFeatures } : {}),
            ...(platform.variant ? { variant: platform.variant } : {}),
          },
        }
      : {}),
    ...(artifactType ? { artifactType } : {}),
  }
}

function sorted(record: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)))
}
