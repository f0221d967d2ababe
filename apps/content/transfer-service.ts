import { type DescMessage, fromBinary, type MessageShape } from '@bufbuild/protobuf'
import type { Any } from '@bufbuild/protobuf/wkt'
import type { Transfer } from '@gantry/api/containerd/services/transfer/v1/transfer_pb'
import { type ImageStore, ImageStoreSchema } from '@gantry/api/containerd/types/transfer/imagestore_pb'
import { type OCIRegistry, OCIRegistrySchema } from '@gantry/api/containerd/types/transfer/registry_pb'
import { Fault } from '@gantry/model/fault'
import { normalizePlatform } from '@gantry/model/platform'
import { parseReference } from '@gantry/model/reference'
import type { Implementation } from '@gantry/rpc/service'
import type { Images } from './images.ts'
import type { Holder } from './leases.ts'
import { recordsFor } from './pull/image-names.ts'
import { createProgress } from './pull/progress.ts'
import type { Pull, PullRequest } from './pull/pull.ts'
import { typeNameOf } from './streaming/streaming-service.ts'
import type { Streams } from './streaming/streams.ts'

interface TransferParts {
  readonly pull: Pull
  readonly images: Images
  readonly streams: Streams
}

/**
 * containerd.services.transfer.v1.Transfer: moves images between places that the request names by their type.
 *
 *   OCIRegistry -> ImageStore   pull
 *   ImageStore  -> ImageStore   another name for the same image
 */
export function transferService({ pull, images, streams }: TransferParts): Implementation<typeof Transfer> {
  return {
    async transfer({ source, destination, options }, { namespace, lease, signal }) {
      const holder: Holder = { namespace, lease }
      const id = options?.progressStream ?? ''
      const stream = id === '' ? undefined : streams.get(namespace, id)
      using _ = { [Symbol.dispose]: () => stream?.close() }
      await using progress = createProgress(stream?.send)

      const store = unpackAny(ImageStoreSchema, destination)
      const registry = unpackAny(OCIRegistrySchema, source)
      const image = unpackAny(ImageStoreSchema, source)
      if (registry && store) await pull(toPull(registry, store), holder, { progress, signal })
      else if (image && store) await tag(images, holder, { from: image.name, store, signal })
      else
        throw new Fault(
          'unimplemented',
          `Cannot transfer from ${nameOf(source)} to ${nameOf(destination)}: not implemented yet`,
        )
      return {}
    },
  }
}

async function tag(
  images: Images,
  holder: Holder,
  { from, store, signal }: { from: string; store: ImageStore; signal: AbortSignal },
): Promise<void> {
  const target = await images.target(holder, from, signal)
  for (const record of recordsFor(store, target)) await images.put(holder, record, signal)
}

function toPull({ reference, resolver }: OCIRegistry, store: ImageStore): PullRequest {
  const source = {
    reference: parseReference(reference),
    defaultScheme: resolver?.defaultScheme ?? '',
    headers: resolver?.headers ?? {},
  }
  return { source, store, platforms: store.platforms.map(normalizePlatform) }
}

/** The message inside an Any when it is of this type, undefined when it is of another. */
function unpackAny<S extends DescMessage>(schema: S, any: Any | undefined): MessageShape<S> | undefined {
  if (!any || typeNameOf(any.typeUrl) !== schema.typeName) return undefined
  try {
    return fromBinary(schema, any.value)
  } catch (cause) {
    throw new Fault('invalid-argument', `Cannot read the ${schema.typeName}: it is malformed`, { cause })
  }
}

function nameOf(any: Any | undefined): string {
  return any ? typeNameOf(any.typeUrl).slice(0, 128) : 'nothing'
}
