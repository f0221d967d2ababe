import { createHash } from 'node:crypto'
import { Fault } from './fault.ts'

/** `<algorithm>:<lower-case hex>`, safe as part of a path or a URL. */
export type Digest = string & { readonly __brand: 'Digest' }

export type DigestAlgorithm = 'sha256' | 'sha384' | 'sha512'

const PATTERN = /^(?:sha256:[a-f0-9]{64}|sha384:[a-f0-9]{96}|sha512:[a-f0-9]{128})$/
const MAX_SHOWN = 140 // characters of a bad digest repeated in a message

/** @throws {Fault} `invalid-argument` for another algorithm, upper case, a wrong length or anything around it */
export function parseDigest(text: string): Digest {
  if (!PATTERN.test(text))
    throw new Fault('invalid-argument', `Cannot use ${JSON.stringify(text.slice(0, MAX_SHOWN))}: not a digest`)
  return text as Digest
}

export function isDigest(text: string): text is Digest {
  return PATTERN.test(text)
}

export function digestParts(digest: Digest): { algorithm: DigestAlgorithm; hex: string } {
  const colon = digest.indexOf(':')
  return { algorithm: digest.slice(0, colon) as DigestAlgorithm, hex: digest.slice(colon + 1) }
}

/** The canonical digest of bytes held in memory; a string counts as its UTF-8 bytes. */
export function sha256Of(bytes: Uint8Array | string): Digest {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}` as Digest
}
