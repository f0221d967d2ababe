import type { Descriptor } from '@gantry/model/descriptor'
import type { Digest } from '@gantry/model/digest'
import { Fault, isFault } from '@gantry/model/fault'
import type { Reference } from '@gantry/model/reference'
import type { Answer } from './answer.ts'
import { apiUrlOf, urlOf } from './endpoint.ts'
import { type Errand, refusal, type Sender } from './sender.ts'
import { errandFor, type Site, type SiteParts, type Source, sitesOf } from './site.ts'

/** What became of one object. */
export type Pushed = 'already exists' | 'mounted' | 'complete'

/** One blob to upload. */
export interface BlobUpload {
  readonly descriptor: Descriptor
  /** The bytes from the start; called again for every attempt, not at all when the registry has the blob. */
  readonly body: () => AsyncIterable<Uint8Array>
  /** Repositories of the same host that are said to have the blob (the `distribution.source` label). */
  readonly mountFrom: readonly string[]
  /** Told how many bytes of the blob were handed to the network so far; an attempt that starts anew starts from 0. */
  readonly onProgress: (sent: bigint) => void
}

/** One manifest or index to upload, after all that it names. */
export interface ManifestUpload {
  readonly descriptor: Descriptor
  readonly bytes: Uint8Array
  /** The tag it gets; by its digest when undefined. */
  readonly tag: string | undefined
}

/** Writes to registries. `to` names host, repository and how to get in; its tag and digest are not looked at. */
export interface Pusher {
  /**
   * Asks for the blob, mounts it from another repository, or uploads it in one piece.
   *
   * @throws {Fault} `unauthenticated`, `permission-denied`, `unavailable` naming host and cause, `failed-precondition`
   * @see behaviour facts, 17.5
   */
  blob(to: Source, upload: BlobUpload, signal: AbortSignal): Promise<Pushed>
  /** @throws {Fault} as `blob` */
  manifest(to: Source, upload: ManifestUpload, signal: AbortSignal): Promise<Pushed>
}

export interface PusherParts extends SiteParts {
  readonly sender: Sender
}

export function createPusher(parts: PusherParts): Pusher {
  /** The first host that takes pushes, and no other: half an image here and half there is of no use. */
  async function siteFor(to: Source): Promise<Site> {
    const [site] = await sitesOf(parts, to, ['push'])
    if (site) return { ...site, last: true }
    throw new Fault('failed-precondition', `Cannot push to ${to.reference.host}: no host takes it`)
  }
  return {
    async blob(to, upload, signal) {
      const pushing = { sender: parts.sender, site: await siteFor(to) }
      const { digest, size } = upload.descriptor
      if (await exists(pushing, { kind: 'blobs', object: digest, digest, mediaType: '' }, signal))
        return 'already exists'
      const from = bestMount(to.reference, upload.mountFrom)
      const open = () => openUpload(pushing, digest, signal)
      const url = (from === undefined ? undefined : await mount(pushing, { digest, from }, signal)) ?? (await open())
      if (url === 'mounted') return url
      const headers = { 'content-type': 'application/octet-stream', 'content-length': String(size) }
      const what = `push ${digest} to ${to.reference.text}`
      const body = () => counted(upload)
      // one that broke off is begun anew: registries take no second start of the same
      await put(pushing, { method: 'PUT', url, what, headers, body, digest, renew: open }, signal)
      return 'complete'
    },
    async manifest(to, { descriptor, bytes, tag }, signal) {
      const pushing = { sender: parts.sender, site: await siteFor(to) }
      const { digest, mediaType } = descriptor
      const object = tag ?? digest
      if (await exists(pushing, { kind: 'manifests', object, digest, mediaType }, signal)) return 'already exists'
      const url = urlOf(pushing.site.endpoint, to.reference, 'manifests', object)
      const headers = { 'content-type': mediaType, 'content-length': String(bytes.length) }
      const what = `push ${digest} to ${to.reference.text}`
      const body = async function* () {
        yield bytes
      }
      await put(pushing, { method: 'PUT', url, what, headers, body, digest }, signal)
      return 'complete'
    },
  }
}

interface Pushing {
  readonly sender: Sender
  readonly site: Site
}

type PushErrand = Pick<Errand, 'method' | 'url' | 'what' | 'headers' | 'body' | 'renew'>

function pushErrand(site: Site, request: PushErrand, mountFrom = ''): Errand {
  const { path } = site.source.reference
  const mount = mountFrom === '' ? [] : [`repository:${mountFrom}:pull`]
  return errandFor(site, { ...request, scopes: [`repository:${path}:pull,push`, ...mount] })
}

/** Has the registry this very object? A tag that names another one is there to be moved. */
async function exists(
  { sender, site }: Pushing,
  {
    kind,
    object,
    digest,
    mediaType,
  }: { kind: 'blobs' | 'manifests'; object: string; digest: Digest; mediaType: string },
  signal: AbortSignal,
): Promise<boolean> {
  const { reference } = site.source
  const what = `look for ${digest} in ${reference.text}`
  const headers: Record<string, string> = kind === 'manifests' ? { accept: `${mediaType}, */*` } : {}
  const errand = pushErrand(site, { method: 'HEAD', url: urlOf(site.endpoint, reference, kind, object), what, headers })
  await using answer = await sender.send(errand, signal)
  if (answer.status === 200) return object === digest || answer.header('docker-content-digest') === digest
  if (answer.status === 403) throw await refusal(errand, answer)
  return false // whatever it means, the upload will tell
}

/** Where to upload to. */
async function openUpload(pushing: Pushing, digest: Digest, signal: AbortSignal): Promise<URL> {
  const errand = uploadErrand(pushing.site, digest)
  await using answer = await pushing.sender.send(errand, signal)
  if (!OPENED.includes(answer.status)) throw await refusal(errand, answer)
  return locationOf(answer, { what: errand.what, digest })
}

/** Has the registry take the blob from another repository; undefined where it may not: that is no failure. */
async function mount(
  { sender, site }: Pushing,
  { digest, from }: { digest: Digest; from: string },
  signal: AbortSignal,
): Promise<URL | 'mounted' | undefined> {
  const errand = uploadErrand(site, digest, from)
  try {
    await using answer = await sender.send(errand, signal)
    if (answer.status === 201) return 'mounted'
    return OPENED.includes(answer.status) ? locationOf(answer, { what: errand.what, digest }) : undefined
  } catch (error) {
    if (isFault(error, 'unauthenticated')) return undefined
    throw error
  }
}

const OPENED = [200, 201, 202, 204]

function uploadErrand(site: Site, digest: Digest, mountFrom = ''): Errand {
  const { endpoint, source } = site
  const url = apiUrlOf(endpoint, `/${source.reference.path}/blobs/uploads/`)
  if (mountFrom !== '') {
    url.searchParams.set('mount', digest)
    url.searchParams.set('from', mountFrom)
  }
  const what = `push ${digest} to ${source.reference.text}`
  return pushErrand(site, { method: 'POST', url, what, headers: { 'content-length': '0' } }, mountFrom)
}

function locationOf(answer: Answer, { what, digest }: { what: string; digest: Digest }): URL {
  const location = URL.parse(answer.header('location'), answer.url.href)
  if (!location || !['http:', 'https:'].includes(location.protocol))
    throw new Fault('failed-precondition', `Cannot ${what}: ${answer.url.host} does not say where to`)
  if (answer.url.protocol === 'https:' && location.protocol === 'http:')
    throw new Fault(
      'failed-precondition',
      `Cannot ${what}: ${answer.url.host} sends us to ${location.host} without TLS`,
    )
  location.username = ''
  location.password = ''
  location.searchParams.set('digest', digest)
  return location
}

async function put(
  { sender, site }: Pushing,
  { digest, ...request }: PushErrand & { digest: Digest },
  signal: AbortSignal,
): Promise<void> {
  const errand = pushErrand(site, request)
  await using answer = await sender.send(errand, signal)
  if (![200, 201, 204].includes(answer.status)) throw await refusal(errand, answer)
  const said = answer.header('docker-content-digest')
  if (said !== '' && said !== digest)
    throw new Fault(
      'failed-precondition',
      `Cannot ${request.what}: ${answer.url.host} took it for ${JSON.stringify(said.slice(0, 150))}`,
    )
}

async function* counted({ body, onProgress }: BlobUpload): AsyncGenerator<Uint8Array> {
  let sent = 0n
  for await (const chunk of body()) {
    yield chunk
    sent += BigInt(chunk.length)
    onProgress(sent)
  }
}

/** The repository that is most like ours: it is the most likely one that we may read. */
export function bestMount({ path }: Pick<Reference, 'path'>, candidates: readonly string[]): string | undefined {
  const parts = path.split('/')
  const shared = (candidate: string): number => {
    const other = candidate.split('/')
    const differs = parts.findIndex((part, at) => part !== other[at])
    return differs < 0 ? parts.length : differs
  }
  const usable = candidates.filter((candidate) => candidate !== path && isRepository(candidate))
  return usable.sort((a, b) => shared(b) - shared(a))[0]
}

/** Labels are what clients wrote: only what could be a repository goes into a request. */
function isRepository(text: string): boolean {
  return text.length <= 255 && /^[a-z0-9]+(?:[._/-]+[a-z0-9]+)*$/.test(text)
}
