import { type DescMessage, fromBinary, type MessageShape } from '@bufbuild/protobuf'
import type { Any } from '@bufbuild/protobuf/wkt'
import type { Transfer } from '@gantry/api/containerd/services/transfer/v1/transfer_pb'
import { type ImageStore, ImageStoreSchema } from '@gantry/api/containerd/types/transfer/imagestore_pb'
import { ImageExportStreamSchema, ImageImportStreamSchema } from '@gantry/api/containerd/types/transfer/importexport_pb'
import {
  HTTPDebug,
  type OCIRegistry,
  OCIRegistrySchema,
  type RegistryResolver,
} from '@gantry/api/containerd/types/transfer/registry_pb'
import { Fault } from '@gantry/model/fault'
import { normalizePlatform } from '@gantry/model/platform'
import { ISOLATED_HEADER, LENT } from '@gantry/rpc/context'
import type { Log } from '@gantry/rpc/log'
import type { Implementation } from '@gantry/rpc/service'
import type { Export } from './archive/export.ts'
import type { Import } from './archive/import.ts'
import type { Images } from './images.ts'
import type { Holder } from './leases.ts'
import { recordsFor } from './pull/image-names.ts'
import { createProgress, type Progress } from './pull/progress.ts'
import type { Pull } from './pull/pull.ts'
import type { Push } from './push/push.ts'
import type { HttpLog } from './registry/http-log.ts'
import { type Caller, sourceOf } from './registry/sources.ts'
import type { Wallet } from './registry/wallet.ts'
import { receiveBytes, sendBytes } from './streaming/bytes.ts'
import { openLogStream } from './streaming/log-stream.ts'
import { typeNameOf } from './streaming/streaming-service.ts'
import type { Stream, Streams } from './streaming/streams.ts'

const MAX_WISHES = 1024 // names, platforms or unpacks of one end: each is compared with every image

export interface TransferParts {
  readonly pull: Pull
  readonly push: Push
  readonly importArchive: Import
  readonly exportArchive: Export
  readonly images: Images
  readonly streams: Streams
  /** The credentials of the service, for clients that send none and may use them. */
  readonly wallet: Wallet
  readonly log: Pick<Log, 'debug'>
}

/**
 * containerd.services.transfer.v1.Transfer: moves images between places that the request names by their type.
 *
 *   OCIRegistry       -> ImageStore         pull
 *   ImageStore        -> OCIRegistry        push
 *   ImageImportStream -> ImageStore         import
 *   ImageStore        -> ImageExportStream  export
 *   ImageStore        -> ImageStore         another name for the same image
 *   ImageImportStream -> ImageExportStream  the bytes back
 *
 * The streams that a request names end with it.
 */
export function transferService(parts: TransferParts): Implementation<typeof Transfer> {
  return {
    async transfer({ source, destination, options }, { namespace, lease, header, signal }) {
      const opened = new Set<Stream>()
      const open = (id: string): Stream => {
        const stream = parts.streams.get(namespace, id)
        opened.add(stream)
        return stream
      }
      using _ = { [Symbol.dispose]: () => opened.forEach((stream) => void stream.close()) }
      const id = options?.progressStream ?? ''
      await using progress = createProgress(id === '' ? undefined : open(id).send)

      const caller = callerOf(header(ISOLATED_HEADER))
      const holder = { namespace, lease, isolated: caller !== 'free' }
      await move(parts, [source, destination], { holder, caller, open, progress, signal })
      return {}
    },
  }
}

function callerOf(isolated: string | undefined): Caller {
  if (isolated === undefined) return 'free'
  return isolated === LENT ? 'lent' : 'restricted'
}

interface Call {
  readonly holder: Holder
  readonly caller: Caller
  /** The stream of that name, which ends with the transfer. */
  readonly open: (id: string) => Stream
  readonly progress: Progress
  readonly signal: AbortSignal
}

async function move(parts: TransferParts, [source, destination]: readonly (Any | undefined)[], call: Call) {
  const { holder, caller, open, signal } = call
  const whose = { service: parts.wallet, caller }
  const from = endOf(source)
  const to = endOf(destination)
  await using http = openHttpLog((from.registry ?? to.registry)?.resolver, parts.log, call)
  const sourceAt = (registry: OCIRegistry) => ({ ...sourceOf(registry, open, whose), log: http.say })
  if (from.registry && to.store)
    return await parts.pull({ source: sourceAt(from.registry), ...storeOf(to.store) }, holder, call)
  if (from.store && to.registry) {
    const { name } = from.store
    return await parts.push({ name, to: sourceAt(to.registry), ...storeOf(from.store) }, holder, call)
  }
  if (from.archive && to.store) {
    const { stream, mediaType, forceCompress: compress } = from.archive
    const bytes = receiveBytes(open(stream), signal)
    return await parts.importArchive({ bytes, mediaType, compress, ...storeOf(to.store) }, holder, call)
  }
  if (from.store && to.output) {
    const { stream, allPlatforms, skipNonDistributable, skipCompatibilityManifest: skipManifest } = to.output
    const platforms = to.output.platforms.map(normalizePlatform)
    const request = { store: from.store, platforms, allPlatforms, skipManifest, skipNonDistributable }
    return await sendBytes(open(stream), parts.exportArchive(request, holder, call), signal)
  }
  if (from.store && to.store) return await tag(parts.images, from.store.name, to.store, call)
  if (from.archive && to.output)
    return await sendBytes(open(to.output.stream), receiveBytes(open(from.archive.stream), signal), signal)
  throw new Fault('unimplemented', `Cannot transfer from ${nameOf(source)} to ${nameOf(destination)}: not implemented`)
}

/** One end of a transfer: what it is depends on its type. */
function endOf(any: Any | undefined) {
  const end = {
    registry: unpackAny(OCIRegistrySchema, any),
    store: unpackAny(ImageStoreSchema, any),
    archive: unpackAny(ImageImportStreamSchema, any),
    output: unpackAny(ImageExportStreamSchema, any),
  }
  for (const list of [end.store?.platforms, end.store?.extraReferences, end.store?.unpacks, end.output?.platforms])
    if (list && list.length > MAX_WISHES)
      throw new Fault(
        'invalid-argument',
        `Cannot transfer: ${nameOf(any)} has a list of ${list.length}, more than ${MAX_WISHES}`,
      )
  return end
}

/** Where the exchanges with a registry are told when the client asks for it: on its stream, or else in our log. */
function openHttpLog(
  resolver: RegistryResolver | undefined,
  log: Pick<Log, 'debug'>,
  { open, signal }: Call,
): AsyncDisposable & { readonly say: HttpLog | undefined } {
  const { httpDebug = HTTPDebug.DISABLED, logsStream: id = '' } = resolver ?? {}
  const client = id === '' ? undefined : open(id) // it ends with the transfer, used or not
  const wanted = httpDebug !== HTTPDebug.DISABLED
  const stream = wanted && client ? openLogStream(client, signal) : undefined
  const say = stream?.write ?? ((text: string) => log.debug({ http: text }, 'An exchange with a registry'))
  return { say: wanted ? say : undefined, [Symbol.asyncDispose]: async () => await stream?.[Symbol.asyncDispose]() }
}

async function tag(images: Images, from: string, store: ImageStore, { holder, signal }: Call): Promise<void> {
  const target = await images.target(holder, from, signal)
  for (const record of recordsFor(store, target)) await images.put(holder, record, signal)
}

function storeOf(store: ImageStore) {
  return { store, platforms: store.platforms.map(normalizePlatform) }
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
