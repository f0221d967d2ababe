import type { ImageStore } from '@gantry/api/containerd/types/transfer/imagestore_pb'
import { type Descriptor, MEDIA } from '@gantry/model/descriptor'
import { digestParts } from '@gantry/model/digest'
import { Fault, isFault } from '@gantry/model/fault'
import type { Platform } from '@gantry/model/platform'
import { parseReference, type Reference } from '@gantry/model/reference'
import type { Blobs } from '../blobs/blobs.ts'
import { held } from '../held.ts'
import type { Images } from '../images.ts'
import type { Holder, Leases } from '../leases.ts'
import type { Progress } from '../pull/progress.ts'
import { collect } from './collect.ts'
import { dockerManifest, type NamedImage } from './docker-manifest.ts'
import { NAME_ANNOTATION, TAG_ANNOTATION } from './names.ts'
import { descriptorJson } from './oci-json.ts'
import { type TarEntry, writeTar } from './write-tar.ts'

const SOURCE_LABEL = 'containerd.io/distribution.source.'

export interface ExportParts {
  readonly blobs: Blobs
  readonly leases: Leases
  readonly images: Images
}

export interface ExportRequest {
  /** Names the images. */
  readonly store: ImageStore
  /** None means this host's, and no other that it could run too. */
  readonly platforms: readonly Platform[]
  readonly allPlatforms: boolean
  /** Leaves out the `manifest.json` that older readers look for. */
  readonly skipManifest: boolean
  /** Leaves out layers that may not be handed on. */
  readonly skipNonDistributable: boolean
}

export type Export = (
  request: ExportRequest,
  holder: Holder,
  call: { progress: Progress; signal: AbortSignal },
) => AsyncIterable<Uint8Array>

/**
 * Makes an archive of images: an OCI layout that is a Docker archive too. The same images are the same bytes. A chunk of it is
 * good until the next one is asked for.
 *
 * @throws {Fault} `not-found` for an image, a platform or a part that is not here; `unimplemented` for a prefix
 * @see behaviour facts, 15.2
 */
export function createExport({ blobs, leases, images }: ExportParts): Export {
  return async function* (request, call, { progress, signal }) {
    await using holder = await held(call, () => leases.create(call.namespace, signal))
    const { namespace } = holder

    progress.say('Exporting')
    const named: NamedImage[] = []
    const files = new Map<string, TarEntry>()
    for (const name of namesOf(request.store)) {
      const target = await images.target(holder, name, signal)
      await leases.add(holder, { content: target.digest }, signal) // and all that it names
      const { manifests, parts } = await collect(target, { namespace, blobs, ...request })
      for (const part of parts)
        files.set(pathOf(part), { name: pathOf(part), kind: 'file', ...blobs.locate(namespace, part.digest) })
      named.push({ name, target: annotated(name, target, blobs.info(namespace, target.digest).labels), manifests })
    }
    yield* writeTar([...files.values(), ...foldersOf(files.keys()), ...documentsOf(named, request)], signal)
    progress.say('Completed export')
  }
}

function namesOf({ name, extraReferences }: ImageStore): string[] {
  if (extraReferences.some(({ isPrefix }) => isPrefix))
    throw new Fault('unimplemented', 'Cannot export by a prefix: name the images')
  const names = [name, ...extraReferences.map((reference) => reference.name)].filter((text) => text !== '')
  if (names.length === 0) throw new Fault('invalid-argument', 'Cannot export: no image is named')
  return [...new Set(names)]
}

function documentsOf(images: readonly NamedImage[], { skipManifest }: ExportRequest): TarEntry[] {
  const manifests = images.map(({ target }) => descriptorJson(target))
  const manifest = skipManifest ? [] : dockerManifest(images, pathOf)
  return [
    document('oci-layout', { imageLayoutVersion: '1.0.0' }),
    document('index.json', { schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests }),
    ...(manifest.length > 0 ? [document('manifest.json', manifest)] : []),
  ]
}

function document(name: string, value: unknown): TarEntry {
  return { name, kind: 'bytes', bytes: Buffer.from(JSON.stringify(value)) }
}

function foldersOf(paths: Iterable<string>): TarEntry[] {
  const folders = new Set(['blobs', ...Array.from(paths, (path) => path.slice(0, path.lastIndexOf('/')))])
  return Array.from(folders, (name) => ({ name, kind: 'folder' }))
}

/** What the archive says of the image: its name, and where its content came from. */
function annotated(name: string, target: Descriptor, labels: Readonly<Record<string, string>>): Descriptor {
  const sources = Object.entries(labels).filter(([key]) => key.startsWith(SOURCE_LABEL))
  const names = { [NAME_ANNOTATION]: name, [TAG_ANNOTATION]: objectOf(name) }
  return { ...target, annotations: { ...target.annotations, ...Object.fromEntries(sources), ...names } }
}

/** The tag or digest, which is all that OCI wants to know; the whole name when it is none of a registry's. */
function objectOf(name: string): string {
  const { tag, digest } = referenceOf(name) ?? {}
  return tag ?? digest ?? name
}

function referenceOf(name: string): Reference | undefined {
  try {
    return parseReference(name)
  } catch (error) {
    if (isFault(error, 'invalid-argument')) return undefined
    throw error
  }
}

function pathOf({ digest }: Pick<Descriptor, 'digest'>): string {
  const { algorithm, hex } = digestParts(digest)
  return `blobs/${algorithm}/${hex}`
}
