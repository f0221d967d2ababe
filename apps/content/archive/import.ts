import type { ImageStore } from '@gantry/api/containerd/types/transfer/imagestore_pb'
import type { Descriptor } from '@gantry/model/descriptor'
import { parseIndex } from '@gantry/model/manifest'
import type { Platform } from '@gantry/model/platform'
import type { Blobs } from '../blobs/blobs.ts'
import type { Ingests } from '../blobs/ingests.ts'
import { held } from '../held.ts'
import type { Images } from '../images.ts'
import type { Holder, Leases } from '../leases.ts'
import type { Progress } from '../pull/progress.ts'
import type { Unpacker } from '../pull/unpacker.ts'
import type { VerifyImage } from '../verify/verify-image.ts'
import { dockerIndex } from './docker-index.ts'
import { importedRecords } from './names.ts'
import { plainArchive } from './plain-archive.ts'
import { readArchive } from './read-archive.ts'
import { readStored, tieStored } from './walk-stored.ts'

export interface ImportParts {
  readonly blobs: Blobs
  readonly ingests: Ingests
  readonly leases: Leases
  readonly images: Images
  readonly unpacker: Unpacker
  /** Asked about every image before the first of them is unpacked. */
  readonly verify: VerifyImage
}

export interface ImportRequest {
  readonly bytes: AsyncIterable<Uint8Array>
  /** '' lets the first bytes tell whether the archive is compressed; with any other it is a plain tar. */
  readonly mediaType: string
  /** Compresses the plain layers of a Docker archive. */
  readonly compress: boolean
  readonly store: ImageStore
  /** Of `store`, parsed; none means all. */
  readonly platforms: readonly Platform[]
}

export type Import = (
  request: ImportRequest,
  holder: Holder,
  call: { progress: Progress; signal: AbortSignal },
) => Promise<void>

/**
 * Brings the images of an archive into a namespace:
 *
 *   lease -> files become blobs while the archive arrives -> index -> manifests are read, their parts are proven to be here
 *   -> verify -> unpack -> image records -> lease released
 *
 * An import that fails, also one that a verifier refuses, leaves no image and no ingest. Its blobs lose the lease, which was
 * all that held those that nobody else uses: the next collection takes them. A client's own lease holds them as long as it lasts.
 *
 * @throws {Fault} `invalid-argument` for what is no archive of images, `failed-precondition` when its parts contradict each
 * other, `not-found` when parts are missing or no image fits the platforms
 * @see behaviour facts, 15.2
 */
export function createImport(parts: ImportParts): Import {
  return async ({ bytes, mediaType, compress, store, platforms }, call, { progress, signal }) => {
    await using holder = await held(call, () => parts.leases.create(call.namespace, signal))
    const { namespace } = holder
    const plans = parts.unpacker.plan(store.unpacks, progress.say)

    progress.say('Importing')
    const sink = { holder, ingests: parts.ingests, signal }
    const archive = await readArchive(mediaType === '' ? plainArchive(bytes) : bytes, sink)
    const index = archive.kind === 'oci' ? archive.index : await dockerIndex(archive, { ...parts, ...sink, compress })

    const images = (await readStored(index, { ...parts, namespace }, parseIndex)).manifests
    const records = importedRecords(store, index, images)
    const manifests = await tieStored(index, { ...parts, namespace, platforms, wish: store })

    for (const { name, target } of records) await parts.verify(name, target, signal)

    if (plans.length > 0) announce(manifests, progress)
    const unpacking = parts.unpacker.begin(plans, { holder, progress, signal })
    for (const manifest of manifests) await unpacking.add(manifest)
    await unpacking.finish()

    for (const record of records) {
      await parts.images.put(holder, record, signal)
      progress.say('saved', record.name)
    }
    progress.say('Completed import')
  }
}

function announce(manifests: readonly { readonly layers: readonly Descriptor[] }[], progress: Progress): void {
  for (const { layers } of manifests) for (const layer of layers) progress.add(layer, [])
}
