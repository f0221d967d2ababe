import { ImageStoreSchema } from '@gantry/api/containerd/types/transfer/imagestore_pb'
import { ImageExportStreamSchema, ImageImportStreamSchema } from '@gantry/api/containerd/types/transfer/importexport_pb'
import { DataSchema, WindowUpdateSchema } from '@gantry/api/containerd/types/transfer/streaming_pb'
import { hostPlatform, type Platform, parsePlatform } from '@gantry/model/platform'
import { pack } from './any.ts'
import type { Progress } from './images.ts'
import { messagesOf, openStream, type Stream } from './stream.ts'
import { transfer } from './transfer.ts'
import type { Wire } from './wire.ts'

const MAX_DATA = 32 * 1024 // bytes of one message, as containerd's clients send them
const LARGE_WINDOW = 128 * 1024 // a server that allows more than containerd does takes larger messages
const LARGE_DATA = 256 * 1024
const GRANT = 1024 * 1024 // bytes we allow at a time
const LOW = 64 * 1024 // bytes the server may still send when we allow more, as containerd's clients do

export interface ImportOptions {
  /** `os/arch[/variant]`; the host's unless told. */
  readonly platform?: string
  readonly allPlatforms?: boolean
  /** What stands before a tag that the archive has without a name; `docker.io/library/import-<date>` unless told. */
  readonly prefix?: string
  /** Only images below the prefix. */
  readonly prefixOnly?: boolean
  /** Names images by their digests, behind the prefix, too. */
  readonly digests?: boolean
  /** Names the whole archive. */
  readonly indexName?: string
  /** Compresses the plain layers of a Docker archive. */
  readonly compress?: boolean
  readonly unpack?: boolean
  readonly snapshotter?: string
}

export interface ExportOptions {
  /** `os/arch[/variant]`; the host's unless told. */
  readonly platform?: string
  readonly allPlatforms?: boolean
  /** Leaves out the `manifest.json` that older readers look for. */
  readonly skipManifest?: boolean
  readonly skipNonDistributable?: boolean
}

/**
 * Sends an archive of images, an OCI layout or what `docker save` writes, also compressed, and lets the server store what
 * is in it.
 *
 * @returns the names of the images, as the server saved them
 * @throws {Fault} what the server says of the archive; whatever `bytes` throws
 */
export async function importArchive(
  wire: Wire,
  request: { readonly bytes: AsyncIterable<Uint8Array>; readonly options: ImportOptions },
  onProgress: (progress: Progress) => void,
  signal: AbortSignal,
): Promise<string[]> {
  const { bytes, options } = request
  const broken = new AbortController()
  const stop = AbortSignal.any([signal, broken.signal])
  await using stream = await openStream(wire, 'import', stop)
  let failure: { error: unknown } | undefined
  const names: string[] = []
  send(stream, bytes).catch((error: unknown) => {
    failure = { error }
    broken.abort()
  })
  const source = pack(ImageImportStreamSchema, { stream: stream.id, forceCompress: options.compress ?? false })
  const note = (progress: Progress): void => {
    if (progress.event === 'saved') names.push(progress.name)
    onProgress(progress)
  }
  try {
    await transfer(wire, { source, destination: storeOf(wire, options) }, note, stop)
  } catch (error) {
    throw failure ? failure.error : error
  }
  return names
}

/**
 * The bytes of an archive of these images. They are complete only when the iteration ends without an error.
 *
 * @throws {Fault} `not-found` for an image, a platform or a part that is not there
 */
export async function* exportArchive(
  wire: Wire,
  request: { readonly names: readonly string[]; readonly options: ExportOptions },
  onProgress: (progress: Progress) => void,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const { names, options } = request
  const left = new AbortController() // by whoever reads
  const stop = AbortSignal.any([signal, left.signal])
  await using stream = await openStream(wire, 'export', stop)
  const [name = '', ...more] = names
  const destination = pack(ImageExportStreamSchema, {
    stream: stream.id,
    platforms: options.platform === undefined ? [] : [toWire(parsePlatform(options.platform))],
    allPlatforms: options.allPlatforms ?? false,
    skipCompatibilityManifest: options.skipManifest ?? false,
    skipNonDistributable: options.skipNonDistributable ?? false,
  })
  const source = pack(ImageStoreSchema, { name, extraReferences: more.map((one) => ({ name: one })) })
  const done = transfer(wire, { source, destination }, onProgress, stop)
  done.catch(() => undefined) // told below, or nobody is left to be told
  try {
    yield* receive(stream, done)
    await done
  } finally {
    left.abort()
  }
}

function storeOf(wire: Wire, options: ImportOptions) {
  const platform = toWire(options.platform === undefined ? hostPlatform() : parsePlatform(options.platform))
  const prefix = options.prefix ?? `docker.io/library/import-${new Date().toISOString().slice(0, 10)}`
  const unpack = options.unpack !== false && !options.allPlatforms
  return pack(ImageStoreSchema, {
    name: options.indexName ?? '',
    platforms: options.allPlatforms ? [] : [platform],
    allMetadata: options.allPlatforms ?? false,
    extraReferences: [
      { name: prefix, isPrefix: true, allowOverwrite: !options.prefixOnly, addDigest: options.digests ?? false },
    ],
    unpacks: unpack ? [{ platform, snapshotter: options.snapshotter ?? wire.snapshotter }] : [],
  })
}

/** Sends as much as the server allows, then the end. */
async function send(stream: Stream, bytes: AsyncIterable<Uint8Array>): Promise<void> {
  const updates = messagesOf(stream, WindowUpdateSchema)[Symbol.asyncIterator]()
  let window = 0
  for await (const chunk of bytes)
    for (let at = 0; at < chunk.length; ) {
      while (window <= 0) {
        const next = await updates.next().catch(() => undefined) // the transfer says why there is no more
        if (!next || next.done) return
        window += next.value.update
      }
      const data = chunk.subarray(at, at + Math.min(window, window > LARGE_WINDOW ? LARGE_DATA : MAX_DATA))
      await stream.ready()
      stream.send(pack(DataSchema, { data }))
      window -= data.length
      at += data.length
    }
  stream.end()
}

/** What comes until the server ends the stream. */
async function* receive(stream: Stream, done: Promise<void>): AsyncGenerator<Uint8Array> {
  const messages = messagesOf(stream, DataSchema)[Symbol.asyncIterator]()
  const failed = done.then(
    () => new Promise<never>(() => undefined),
    (error: unknown) => Promise.reject(error),
  )
  failed.catch(() => undefined)
  for (let window = 0; ; ) {
    if (window < LOW) {
      await stream.ready()
      stream.send(pack(WindowUpdateSchema, { update: GRANT }))
      window += GRANT
    }
    const next = await Promise.race([messages.next(), failed])
    if (next.done) return
    const { data } = next.value
    window = Math.max(0, window - data.length)
    yield data
  }
}

function toWire({ os, architecture, variant = '' }: Platform) {
  return { os, architecture, variant }
}
