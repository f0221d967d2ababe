import { type Descriptor, isAttestation, isConfig, isIndex, isLayer, isManifest } from './descriptor.ts'

const NAME_ANNOTATION = 'org.opencontainers.image.ref.name'
const MAX_NAME = 255 // characters taken over from an annotation, which is not ours
const PRINTABLE = /^[\x21-\x7e]+$/

/** The name of the ingest a blob is downloaded under, and of its line in progress reports: `layer-sha256:...`. */
export function refKey(descriptor: Descriptor): string {
  const name = descriptor.annotations?.[NAME_ANNOTATION] ?? ''
  const usable = name.length <= MAX_NAME && PRINTABLE.test(name)
  return `${kindOf(descriptor)}-${usable ? `${name}@` : ''}${descriptor.digest}`
}

function kindOf(descriptor: Descriptor): string {
  if (isManifest(descriptor)) return 'manifest'
  if (isIndex(descriptor)) return 'index'
  if (isLayer(descriptor)) return 'layer'
  if (isConfig(descriptor)) return 'config'
  if (isAttestation(descriptor)) return 'attestation'
  return 'unknown'
}
