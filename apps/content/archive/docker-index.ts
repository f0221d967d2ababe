import { createReadStream } from 'node:fs'
import { open, readFile } from 'node:fs/promises'
import { pipeline } from 'node:stream'
import { createGzip } from 'node:zlib'
import { codecOf } from '@gantry/model/codec'
import { type Descriptor, MEDIA } from '@gantry/model/descriptor'
import { type Digest, parseDigest } from '@gantry/model/digest'
import { type Document, parseDocuments } from '@gantry/model/document'
import { Fault, isFault } from '@gantry/model/fault'
import { MAX_CONFIG_BYTES, parseImageConfig } from '@gantry/model/manifest'
import { normalizePlatform } from '@gantry/model/platform'
import { normalizeReference } from '@gantry/model/reference'
import type { Blobs } from '../blobs/blobs.ts'
import type { Leases } from '../leases.ts'
import { plainLabel } from '../pull/labels.ts'
import { NAME_ANNOTATION, TAG_ANNOTATION } from './names.ts'
import { descriptorJson } from './oci-json.ts'
import { type Archive, type File, type Files, storeDocument } from './read-archive.ts'
import { type Store, storeBlob } from './store-blob.ts'

const MAX_JSON = 20 * 1024 * 1024
const MAX_ENTRIES = 1024 // images, tags of all, layers of one
const CHUNK = 512 * 1024
const LAYER_TYPE = {
  none: MEDIA.dockerLayer,
  gzip: MEDIA.dockerLayerGzip,
  zstd: `${MEDIA.dockerLayer}.zstd`,
} as const

export interface DockerParts extends Store {
  readonly blobs: Blobs
  readonly leases: Leases
  /** Plain layers are compressed. */
  readonly compress: boolean
}

/**
 * Makes an index with manifests of what `docker save` wrote. The bytes are those that containerd makes of it, so the digests
 * are the same. A layer that is here compressed already stands in for its plain one.
 *
 * @throws {Fault} `invalid-argument` when `manifest.json` makes no sense or names a file that is not in the archive
 */
export async function dockerIndex(
  { manifest, files }: Extract<Archive, { kind: 'docker' }>,
  parts: DockerParts,
): Promise<Descriptor> {
  const images = parseDocuments(manifest, { bytes: MAX_JSON, entries: MAX_ENTRIES, what: 'manifest.json' })
  if (images.length === 0) throw new Fault('invalid-argument', 'Cannot read the archive: manifest.json has no image')
  const known = compressedLayers(parts)
  const descriptors: Descriptor[] = []
  for (const image of images) {
    descriptors.push(...(await imageOf(image, { files, known }, parts)))
    if (descriptors.length > MAX_ENTRIES) throw image.fault(`there are more than ${MAX_ENTRIES} images and tags`)
  }
  const index = { schemaVersion: 2, manifests: descriptors.map(descriptorJson) }
  return await storeDocument(MEDIA.ociIndex, Buffer.from(JSON.stringify(index)), parts)
}

/** What layers are made of. */
interface Found {
  readonly files: Files
  /** Layers by the digests of their files: what is here compressed already, and what is made meanwhile. */
  readonly known: Map<string, Descriptor>
}

/** One descriptor for each tag of an image. */
async function imageOf(image: Document, { files, known }: Found, parts: DockerParts): Promise<Descriptor[]> {
  const find = (name: string): File => {
    const file = files.get(name.replace(/^\.\//, ''))
    if (!file) throw image.fault(`${JSON.stringify(name.slice(0, 128))} is not in the archive`)
    return file
  }
  const config = { mediaType: MEDIA.dockerConfig, ...find(image.text('Config') ?? '') }
  const plain = (image.texts('Layers') ?? []).map(find)
  const layers: Descriptor[] = []
  for (const file of plain) {
    const layer = await layerOf(file, known.get(file.digest), parts)
    known.set(file.digest, layer)
    layers.push(layer)
  }
  const document = {
    schemaVersion: 2,
    mediaType: MEDIA.dockerManifest,
    config: descriptorJson(config),
    layers: layers.map(descriptorJson),
  }
  const manifest = await storeDocument(MEDIA.dockerManifest, Buffer.from(JSON.stringify(document)), parts)
  const platform = await platformOf(config, parts)
  const tags = image.texts('RepoTags') ?? []
  if (tags.length === 0) return [{ ...manifest, platform }]
  return tags.map((tag) => ({ ...manifest, annotations: annotationsOf(tag), platform }))
}

function annotationsOf(tag: string): Record<string, string> {
  try {
    const { text, tag: object = '' } = normalizeReference(tag)
    return { [NAME_ANNOTATION]: text, ...(object === '' ? {} : { [TAG_ANNOTATION]: object }) }
  } catch (error) {
    if (!isFault(error)) throw error
    throw new Fault('invalid-argument', `Cannot read the archive: manifest.json: ${error.message}`)
  }
}

/** Layers that are here compressed, by the digest of their plain bytes. */
function compressedLayers({ blobs, holder }: DockerParts): Map<string, Descriptor> {
  const known = new Map<string, Descriptor>()
  for (const { digest, size, labels } of blobs.list(holder.namespace, ['labels."containerd.io/uncompressed"']))
    known.set(labels['containerd.io/uncompressed'] ?? '', {
      mediaType: MEDIA.dockerLayerGzip,
      digest: parseDigest(digest),
      size,
    })
  return known
}

async function layerOf(file: File, known: Descriptor | undefined, parts: DockerParts): Promise<Descriptor> {
  const { blobs, holder, leases, signal } = parts
  if (known && known.digest !== file.digest) {
    await leases.add(holder, { content: known.digest }, signal)
    const isHere = blobs.has(holder.namespace, known.digest) // or collected since
    if (isHere)
      return { ...known, mediaType: LAYER_TYPE[await codecAt(blobs.locate(holder.namespace, known.digest).path)] }
  }
  const { path } = blobs.locate(holder.namespace, file.digest)
  const codec = await codecAt(path)
  if (codec !== 'none' || !parts.compress) return { mediaType: LAYER_TYPE[codec], ...file }
  return await compressed(file.digest, path, parts)
}

async function compressed(plain: Digest, path: string, parts: DockerParts): Promise<Descriptor> {
  let size = 0n
  async function* body(): AsyncGenerator<Uint8Array> {
    const source = createReadStream(path, { highWaterMark: CHUNK, signal: parts.signal })
    const gzip = createGzip({ chunkSize: CHUNK })
    pipeline(source, gzip, () => undefined) // a failure comes out of the iteration
    for await (const chunk of gzip) {
      size += BigInt(chunk.length)
      yield chunk
    }
  }
  const digest = await storeBlob({ size: 0n, labels: plainLabel(plain) }, body(), parts)
  return { mediaType: MEDIA.dockerLayerGzip, digest, size }
}

async function codecAt(path: string) {
  await using file = await open(path)
  const { buffer, bytesRead } = await file.read(Buffer.alloc(4), 0, 4, 0)
  return codecOf(buffer.subarray(0, bytesRead))
}

async function platformOf({ digest, size }: File, { blobs, holder }: DockerParts) {
  if (size > BigInt(MAX_CONFIG_BYTES))
    throw new Fault('invalid-argument', `Cannot read the archive: the image config has ${size} bytes`)
  const bytes = await readFile(blobs.locate(holder.namespace, digest).path)
  return normalizePlatform(parseImageConfig(bytes).platform)
}
