import { ImageStoreSchema } from '@gantry/api/containerd/types/transfer/imagestore_pb'
import { OCIRegistrySchema } from '@gantry/api/containerd/types/transfer/registry_pb'
import { hostPlatform, parsePlatform } from '@gantry/model/platform'
import { parseReference } from '@gantry/model/reference'
import { pack } from './any.ts'
import type { Progress, PullOptions } from './images.ts'
import { transfer } from './transfer.ts'
import type { Wire } from './wire.ts'

/**
 * Asks the server to pull an image, unpack it and store its name. Progress comes over a stream of its own, which is open
 * before the transfer names it; there is none when nobody wants to know.
 *
 * @throws {Fault} `invalid-argument` for a reference that is not complete; else what the transfer failed with
 */
export async function pull(
  wire: Wire,
  request: { readonly reference: string; readonly options: PullOptions },
  onProgress: ((progress: Progress) => void) | undefined,
  signal: AbortSignal,
): Promise<void> {
  const { reference, options } = request
  parseReference(reference)
  const { credentials } = options
  // what streams is read where there is one
  await using auth = credentials && (await import('./auth.ts')).openAuth(wire, credentials, signal)
  const platform = options.platform === undefined ? hostPlatform() : parsePlatform(options.platform)
  const wirePlatform = { os: platform.os, architecture: platform.architecture, variant: platform.variant ?? '' }
  const ends = Promise.resolve(auth?.id ?? '').then((authStream) => ({
    source: pack(OCIRegistrySchema, {
      reference,
      resolver: { defaultScheme: options.plainHttp ? 'http' : '', authStream },
    }),
    destination: pack(ImageStoreSchema, {
      name: reference,
      platforms: options.allPlatforms ? [] : [wirePlatform],
      unpacks:
        options.unpack === false
          ? []
          : [{ platform: wirePlatform, snapshotter: options.snapshotter ?? wire.snapshotter }],
    }),
  }))
  await Promise.race([transfer(wire, ends, onProgress, signal), ...(auth ? [auth.failed] : [])])
}
