import { type Descriptor, MEDIA } from '@gantry/model/descriptor'
import { type Digest, isDigest } from '@gantry/model/digest'
import { parseDocument } from '@gantry/model/document'
import { Fault } from '@gantry/model/fault'
import { MAX_MANIFEST_BYTES } from '@gantry/model/manifest'
import { type Entry, readEntries } from './entries.ts'
import { type Store, storeBlob } from './store-blob.ts'

const MAX_JSON = 20 * 1024 * 1024 // bytes of `oci-layout` or `manifest.json` (CVE-2023-25153)
const LAYOUT = 'oci-layout'
const INDEX = 'index.json'
const DOCKER = 'manifest.json'
/** The documents of an archive that say what is in it, and how large they may be. */
const DOCUMENTS: ReadonlyMap<string, number> = new Map([
  [LAYOUT, MAX_JSON],
  [DOCKER, MAX_JSON],
  [INDEX, MAX_MANIFEST_BYTES],
])
/** What old versions of Docker wrote beside layers; nobody reads it. */
const IGNORED = /(?:^|\/)(?:VERSION|json|repositories)$/

/** A file of an archive, now a blob. */
export type File = Pick<Descriptor, 'digest' | 'size'>

/** What an archive is: an OCI layout, or what `docker save` wrote before it wrote layouts. */
export type Archive =
  | { readonly kind: 'oci'; readonly index: Descriptor }
  | { readonly kind: 'docker'; readonly manifest: Uint8Array; readonly files: Files }

/** The files by their names in the archive; a link counts as the file it names. */
export interface Files {
  get(name: string): File | undefined
}

/**
 * Reads an archive as it arrives, in whatever order it comes: files become blobs at once, only the documents that say what
 * is in it are kept in memory. Nothing is written under a name of the archive's.
 *
 * @throws {Fault} `invalid-argument` for an archive of no known kind, or one that says two things; `failed-precondition`
 * for a blob that is not what its name says
 */
export async function readArchive(source: AsyncIterable<Uint8Array>, store: Store): Promise<Archive> {
  const documents = new Map<string, Uint8Array>()
  const files = createFiles()
  for await (const entry of readEntries(source, store.signal)) {
    const limit = DOCUMENTS.get(entry.name)
    if (limit !== undefined && entry.kind !== 'other') {
      if (documents.has(entry.name) || entry.kind === 'link') throw refuse(`${entry.name} is there twice, or is a link`)
      documents.set(entry.name, await readDocument(entry, limit))
    } else if (entry.kind === 'link') files.link(entry.name, entry.target)
    else if (entry.kind === 'file' && !IGNORED.test(entry.name)) files.add(entry.name, await toBlob(entry, store))
  }
  const manifest = documents.get(DOCKER)
  if (documents.has(LAYOUT)) return { kind: 'oci', index: await indexOf(documents, store) }
  if (manifest) return { kind: 'docker', manifest, files }
  throw refuse(`it has neither ${LAYOUT} nor ${DOCKER}`)
}

async function readDocument({ name, size, body }: Entry, limit: number): Promise<Uint8Array> {
  if (size > limit) throw refuse(`${name} has ${size} bytes, more than ${limit}`)
  return Buffer.concat(await Array.fromAsync(body))
}

async function toBlob({ name, size, body }: Entry, store: Store): Promise<File> {
  const expected = digestOf(name)
  const incoming = { size: BigInt(size), ...(expected ? { expected } : {}) }
  return { digest: await storeBlob(incoming, body, store), size: BigInt(size) }
}

/** What `blobs/<algorithm>/<hex>` says of its bytes; a name below `blobs` that is no digest is refused (CVE-2024-3727). */
function digestOf(name: string): Digest | undefined {
  if (!name.startsWith('blobs/')) return undefined
  const [, algorithm = '', hex = '', ...rest] = name.split('/')
  const digest = `${algorithm}:${hex}`
  if (rest.length === 0 && isDigest(digest)) return digest
  throw refuse(`${JSON.stringify(name.slice(0, 128))} is no blob`)
}

async function indexOf(documents: ReadonlyMap<string, Uint8Array>, store: Store): Promise<Descriptor> {
  const layout = documents.get(LAYOUT) ?? new Uint8Array()
  const version = parseDocument(layout, { bytes: MAX_JSON, entries: 16, what: LAYOUT }).text('imageLayoutVersion')
  if (version !== '1.0.0') throw refuse(`its layout has version ${JSON.stringify((version ?? '').slice(0, 32))}`)
  const bytes = documents.get(INDEX)
  if (!bytes) throw refuse(`it has no ${INDEX}`)
  return await storeDocument(MEDIA.ociIndex, bytes, store)
}

/** Makes a blob of a document that we have in memory. */
export async function storeDocument(mediaType: string, bytes: Uint8Array, store: Store): Promise<Descriptor> {
  const size = BigInt(bytes.length)
  async function* body(): AsyncGenerator<Uint8Array> {
    yield bytes
  }
  return { mediaType, digest: await storeBlob({ size }, body(), store), size }
}

function createFiles(): Files & { add(name: string, file: File): void; link(name: string, target?: string): void } {
  const files = new Map<string, File>()
  const links = new Map<string, string>()
  return {
    add(name, file) {
      const before = files.get(name)
      if (before && before.digest !== file.digest) throw refuse(`${JSON.stringify(name.slice(0, 128))} is there twice`)
      files.set(name, file)
    },
    link(name, target) {
      if (target !== undefined) links.set(name, target)
    },
    get: (name) => files.get(name) ?? files.get(links.get(name) ?? ''), // a link to a link is nothing
  }
}

function refuse(why: string): Fault {
  return new Fault('invalid-argument', `Cannot read the archive: ${why}`)
}
