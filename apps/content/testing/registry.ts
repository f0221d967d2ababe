/** A registry on this machine that serves what it is given, and misbehaves where it is told to. */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { type Descriptor, MEDIA } from '@gantry/model/descriptor'
import { type Digest, type DigestAlgorithm, parseDigest, sha256Of } from '@gantry/model/digest'
import { hostPlatform } from '@gantry/model/platform'

type Misbehave = (request: IncomingMessage, response: ServerResponse, body: Buffer) => void

interface Stored {
  readonly mediaType: string
  readonly body: Buffer
}

export async function startRegistry() {
  const objects = new Map<string, Stored>() // by digest, and by repository:tag
  const requests: string[] = []
  const faults: { pattern: RegExp; times: number; misbehave: Misbehave }[] = []
  const server = createServer((request, response) => {
    const url = decodeURIComponent(request.url ?? '')
    requests.push(`${request.method} ${url}${request.headers.range ? ` ${request.headers.range}` : ''}`)
    const [, path = '', object = ''] = /^\/v2\/(.+)\/(?:manifests|blobs)\/([^/]+)$/.exec(url) ?? []
    const stored = objects.get(object) ?? objects.get(`${path}:${object}`)
    const fault = faults.find(({ pattern, times }) => times > 0 && pattern.test(`${request.method} ${url}`))
    if (fault) {
      fault.times--
      fault.misbehave(request, response, stored?.body ?? Buffer.alloc(0))
    } else serve(request, response, stored)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  const host = `127.0.0.1:${typeof address === 'object' ? address?.port : ''}`

  const put = (
    mediaType: string,
    body: Buffer | string | object,
    algorithm: DigestAlgorithm = 'sha256',
  ): Descriptor => {
    const bytes =
      typeof body === 'string' || Buffer.isBuffer(body) ? Buffer.from(body) : Buffer.from(JSON.stringify(body))
    const digest = digestOf(algorithm, bytes)
    objects.set(digest, { mediaType, body: bytes })
    return { mediaType, digest, size: BigInt(bytes.length) }
  }
  const plain = (descriptor: Descriptor) => ({ ...descriptor, size: Number(descriptor.size) })

  return {
    host,
    requests,
    put,
    tag: (name: string, { digest, mediaType }: Descriptor) =>
      objects.set(name, { mediaType, body: objects.get(digest)?.body ?? Buffer.alloc(0) }),
    /** An image of one platform, with layers that hold these texts. */
    image(layers: readonly (string | Buffer)[], platform = hostPlatform()) {
      const blobs = layers.map((layer) => put(MEDIA.ociLayer, layer))
      const config = put(MEDIA.ociConfig, {
        ...platform,
        rootfs: { type: 'layers', diff_ids: blobs.map(({ digest }) => digest) },
      })
      const document = {
        schemaVersion: 2,
        mediaType: MEDIA.ociManifest,
        config: plain(config),
        layers: blobs.map(plain),
      }
      return { manifest: { ...put(MEDIA.ociManifest, document), platform }, config, layers: blobs }
    },
    index: (manifests: readonly Descriptor[]) =>
      put(MEDIA.ociIndex, { schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests: manifests.map(plain) }),
    /** The next `times` requests that match are answered by `misbehave`. */
    misbehave: (pattern: RegExp, misbehave: Misbehave, times = Number.POSITIVE_INFINITY) =>
      faults.push({ pattern, times, misbehave }),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      if (server.listening) await once(server, 'close')
    },
  }
}

export function digestOf(algorithm: DigestAlgorithm, bytes: Uint8Array): Digest {
  return parseDigest(`${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`)
}

export type TestRegistry = Awaited<ReturnType<typeof startRegistry>>

function serve(request: IncomingMessage, response: ServerResponse, stored: Stored | undefined): void {
  if (!stored) {
    response.writeHead(404, { 'content-type': 'application/json' })
    response.end('{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}')
    return
  }
  const { body, mediaType } = stored
  const { status, headers, part } = partOf(request, body)
  response.writeHead(status, { 'content-type': mediaType, 'docker-content-digest': sha256Of(body), ...headers })
  response.end(request.method === 'HEAD' ? undefined : part)
}

/** What a request wants of a body, and how an honest answer says so. */
export function partOf({ headers: { range = '' } }: IncomingMessage, body: Buffer) {
  const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(range) ?? []
  if (first === undefined) return { status: 200, headers: { 'content-length': body.length }, part: body }
  const part = body.subarray(Number(first), last ? Number(last) + 1 : undefined)
  const end = Number(first) + part.length - 1
  const headers = { 'content-length': part.length, 'content-range': `bytes ${first}-${end}/${body.length}` }
  return { status: 206, headers, part }
}
