/** Archives of images, good and bad, made in memory. */
import { type Descriptor, MEDIA } from '@gantry/model/descriptor'
import { sha256Of } from '@gantry/model/digest'
import { hostPlatform, type Platform } from '@gantry/model/platform'
import { type Header, pack } from 'tar-stream'
import { descriptorJson } from '../archive/oci-json.ts'

export type TestEntry = readonly [name: string, body: string | Buffer, header?: Partial<Header>]

/** A tar with these entries, in this order. */
export async function tarOf(entries: readonly TestEntry[]): Promise<Buffer> {
  const tar = pack()
  for (const [name, body, header] of entries) tar.entry({ name, ...header }, body)
  tar.finalize()
  const chunks: Buffer[] = []
  for await (const chunk of tar) chunks.push(Buffer.from(chunk as Uint8Array))
  return Buffer.concat(chunks)
}

/** Bytes in pieces, as they come over a stream. */
export async function* inPieces(bytes: Uint8Array, size = 32 * 1024): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

/** Collects the files of an OCI layout. */
export function createLayout() {
  const blobs = new Map<string, TestEntry>()
  const put = (mediaType: string, body: string | Buffer | object, platform?: Platform): Descriptor => {
    const bytes =
      Buffer.isBuffer(body) || typeof body === 'string' ? Buffer.from(body) : Buffer.from(JSON.stringify(body))
    const digest = sha256Of(bytes)
    const path = `blobs/${digest.replace(':', '/')}`
    blobs.set(path, [path, bytes])
    return { mediaType, digest, size: BigInt(bytes.length), ...(platform ? { platform } : {}) }
  }
  return {
    put,
    /** An image whose layers are these texts. */
    image(layers: readonly (string | Buffer)[], platform: Platform = hostPlatform()): Descriptor {
      const stored = layers.map((layer) => put(MEDIA.ociLayer, layer))
      const rootfs = { type: 'layers', diff_ids: stored.map(({ digest }) => digest) }
      const config = put(MEDIA.ociConfig, { ...platform, rootfs })
      const manifest = {
        schemaVersion: 2,
        mediaType: MEDIA.ociManifest,
        config: descriptorJson(config),
        layers: stored.map(descriptorJson),
      }
      return put(MEDIA.ociManifest, manifest, platform)
    },
    index: (manifests: readonly Descriptor[]): Descriptor =>
      put(MEDIA.ociIndex, { schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests: manifests.map(descriptorJson) }),
    /** All files, with an index of these images. */
    entries(manifests: readonly Descriptor[]): TestEntry[] {
      const index = JSON.stringify({ schemaVersion: 2, manifests: manifests.map(descriptorJson) })
      return [...blobs.values(), ['index.json', index], ['oci-layout', '{"imageLayoutVersion":"1.0.0"}']]
    },
  }
}
