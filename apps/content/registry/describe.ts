import { createHash } from 'node:crypto'
import { type Descriptor, isIndex, isManifest, MEDIA } from '@gantry/model/descriptor'
import { isDigest, sha256Of } from '@gantry/model/digest'
import { Fault } from '@gantry/model/fault'
import { MAX_MANIFEST_BYTES } from '@gantry/model/manifest'
import type { Reference } from '@gantry/model/reference'
import type { Answer } from './answer.ts'
import { readBounded } from './body.ts'

/** What a registry may answer with when it is asked for an image. */
export const MANIFEST_TYPES = [MEDIA.dockerManifest, MEDIA.dockerIndex, MEDIA.ociManifest, MEDIA.ociIndex, '*/*'].join(
  ', ',
)

/** Reads the headers of a HEAD; undefined when they do not tell enough. */
export function describe(reference: Reference, answer: Answer): Descriptor | undefined {
  const mediaType = mediaTypeOf(reference, answer)
  const length = answer.header('content-length')
  const said = answer.header('docker-content-digest')
  if (!/^\d{1,15}$/.test(length) || (said === '' && !reference.digest)) return undefined
  if (said !== '' && !isDigest(said))
    throw new Fault(
      'failed-precondition',
      `Cannot resolve ${reference.text}: ${answer.url.host} answers with a malformed digest`,
    )
  if (
    reference.digest &&
    said !== '' &&
    isDigest(said) &&
    sameAlgorithm(said, reference.digest) &&
    said !== reference.digest
  )
    throw new Fault('failed-precondition', `Cannot resolve ${reference.text}: ${answer.url.host} answers with ${said}`)
  const size = checkSize(reference, BigInt(length))
  const digest = reference.digest ?? said
  return isDigest(digest) ? { mediaType, digest, size } : undefined
}

/** Hashes the whole body when its headers did not tell enough. */
export async function describeBody(reference: Reference, answer: Answer): Promise<Descriptor> {
  const mediaType = mediaTypeOf(reference, answer)
  const body = await readBounded(answer, MAX_MANIFEST_BYTES, `the manifest of ${reference.text}`)
  const [algorithm = 'sha256'] = (reference.digest ?? '').split(':')
  const digest = reference.digest ? `${algorithm}:${createHash(algorithm).update(body).digest('hex')}` : sha256Of(body)
  if (!isDigest(digest) || (reference.digest && digest !== reference.digest))
    throw new Fault('failed-precondition', `Cannot resolve ${reference.text}: ${answer.url.host} sends other bytes`)
  return { mediaType, digest, size: checkSize(reference, BigInt(body.length)) }
}

function mediaTypeOf(reference: Reference, answer: Answer): string {
  const mediaType = (answer.header('content-type').split(';')[0] ?? '').trim().toLowerCase()
  if (isManifest(mediaType) || isIndex(mediaType)) return mediaType
  if (/^application\/vnd\.docker\.distribution\.manifest\.v1\+/.test(mediaType) || mediaType === 'text/plain')
    throw new Fault('invalid-argument', `Cannot pull ${reference.text}: schema 1 manifests are not supported`)
  throw new Fault(
    'failed-precondition',
    `Cannot resolve ${reference.text}: ${answer.url.host} answers with ${JSON.stringify(mediaType.slice(0, 100))}, not with a manifest`,
  )
}

function checkSize(reference: Reference, size: bigint): bigint {
  if (size > 0n && size <= BigInt(MAX_MANIFEST_BYTES)) return size
  throw new Fault('failed-precondition', `Cannot resolve ${reference.text}: a manifest of ${size} bytes`)
}

function sameAlgorithm(a: string, b: string): boolean {
  return a.split(':')[0] === b.split(':')[0]
}
