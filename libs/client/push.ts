import { randomBytes } from 'node:crypto'
import { ImageStoreSchema } from '@gantry/api/containerd/types/transfer/imagestore_pb'
import { OCIRegistrySchema } from '@gantry/api/containerd/types/transfer/registry_pb'
import { isIndex } from '@gantry/model/descriptor'
import { parseReference } from '@gantry/model/reference'
import { pack } from './any.ts'
import { type Login, openAuth } from './auth.ts'
import type { Images, Progress } from './images.ts'
import { transfer } from './transfer.ts'
import type { Wire } from './wire.ts'

const CLEANUP_MS = 10_000

export interface PushOptions {
  /** Pushes only the manifest of this platform, `os/arch[/variant]`: it then has the tag that the index would have. */
  readonly platform?: string
  readonly plainHttp?: boolean
  /** Sent when the server asks for them. */
  readonly credentials?: Login
}

/**
 * Asks the server to push the image `name` to where `reference` says.
 *
 * @throws {Fault} `invalid-argument` for a reference that is not complete, `not-found` for an image or a part of it
 */
export async function push(
  parts: { readonly wire: Wire; readonly images: Pick<Images, 'get' | 'resolve'> },
  request: { readonly name: string; readonly reference: string; readonly options: PushOptions },
  onProgress: (progress: Progress) => void,
  signal: AbortSignal,
): Promise<void> {
  const { wire } = parts
  const { reference, options } = request
  parseReference(reference)
  await using source = await openSource(parts, request, signal)
  await using auth = openAuth(wire, options.credentials, signal)
  const defaultScheme = options.plainHttp ? 'http' : ''
  const ends = auth.id.then((authStream) => ({
    source: pack(ImageStoreSchema, { name: source.name }),
    destination: pack(OCIRegistrySchema, { reference, resolver: { defaultScheme, authStream } }),
  }))
  await Promise.race([transfer(wire, ends, onProgress, signal), auth.failed])
}

/**
 * The image to push. Registries refuse an index of which they do not get all, so that for one platform its manifest gets a
 * name of its own for a while.
 */
async function openSource(
  { wire, images }: { readonly wire: Wire; readonly images: Pick<Images, 'get' | 'resolve'> },
  { name, options }: { readonly name: string; readonly options: PushOptions },
  signal: AbortSignal,
): Promise<AsyncDisposable & { readonly name: string }> {
  const { target } = await images.get(name, signal)
  if (options.platform === undefined || !isIndex(target)) return { name, [Symbol.asyncDispose]: async () => undefined }
  const { manifest } = await images.resolve(name, { platform: options.platform }, signal)
  const own = `${name}#push-${randomBytes(6).toString('hex')}`
  const { mediaType, digest, size } = manifest
  await wire.services.images.create({ image: { name: own, target: { mediaType, digest, size } } }, wire.call(signal))
  return {
    name: own,
    async [Symbol.asyncDispose]() {
      await wire.services.images
        .delete({ name: own }, wire.call(AbortSignal.timeout(CLEANUP_MS)))
        .catch(() => undefined) // the push has its own outcome
    },
  }
}
