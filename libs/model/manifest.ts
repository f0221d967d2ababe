import { type Descriptor, isIndex, isManifest } from './descriptor.ts'
import { type Digest, parseDigest } from './digest.ts'
import { type Document, type Limits, parseDocument } from './document.ts'
import type { Platform } from './platform.ts'

/** Larger manifests and indexes are refused unread, as containerd does. */
export const MAX_MANIFEST_BYTES = 4_393_216

const MAX_ENTRIES = 1024 // layers of a manifest, manifests of an index, annotations

/** Larger image configs are refused unread. */
export const MAX_CONFIG_BYTES = 8 * 1024 * 1024

const MAX_CONFIG_ENTRIES = 4096 // of env, cmd, labels, history and the like

export interface Manifest {
  readonly mediaType: string // '' when the document does not say
  readonly artifactType?: string
  readonly config: Descriptor
  readonly layers: readonly Descriptor[] // base first
  readonly subject?: Descriptor
  readonly annotations: Readonly<Record<string, string>>
}

export interface Index {
  readonly mediaType: string
  readonly artifactType?: string
  readonly manifests: readonly Descriptor[]
  readonly subject?: Descriptor
  readonly annotations: Readonly<Record<string, string>>
}

/** How containers of an image run unless told otherwise. All of it is the image author's word. */
export interface ImageDefaults {
  readonly user: string
  readonly env: readonly string[]
  readonly entrypoint: readonly string[]
  readonly cmd: readonly string[]
  readonly workingDir: string
  readonly labels: Readonly<Record<string, string>>
  readonly volumes: readonly string[]
  readonly exposedPorts: readonly string[]
  readonly stopSignal: string
}

export interface ImageConfig {
  readonly platform: Platform
  readonly created?: string
  readonly config: ImageDefaults
  readonly diffIds: readonly Digest[] // base first
}

/**
 * Reads a manifest, strictly: bytes that could also be taken for an index mean different images to different readers.
 *
 * @param mediaType what the registry or the descriptor called it; must agree with what the document says
 * @throws {Fault} `invalid-argument`
 */
export function parseManifest(bytes: Uint8Array, mediaType?: string): Manifest {
  const document = open(bytes, 'manifest', mediaType, isManifest)
  if (document.has('manifests')) throw document.fault('it also lists manifests')
  if (document.has('fsLayers')) throw document.fault('schema 1 is not supported')
  const config = document.object('config')
  const layers = document.objects('layers')
  if (!config || !layers) throw document.fault('config or layers are missing')
  return { ...shared(document), config: descriptorOf(config), layers: layers.map(descriptorOf) }
}

/**
 * Reads an index, as strictly. Depth is bounded by whoever follows the descriptors.
 *
 * @throws {Fault} `invalid-argument`
 */
export function parseIndex(bytes: Uint8Array, mediaType?: string): Index {
  const document = open(bytes, 'index', mediaType, isIndex)
  for (const field of ['config', 'layers', 'fsLayers'])
    if (document.has(field)) throw document.fault(`it also has ${field}`)
  const manifests = document.objects('manifests')
  if (!manifests) throw document.fault('manifests are missing')
  return { ...shared(document), manifests: manifests.map(descriptorOf) }
}

/**
 * Reads an image config. What is absent or null comes out empty.
 *
 * @throws {Fault} `invalid-argument`
 */
export function parseImageConfig(bytes: Uint8Array): ImageConfig {
  const document = parseDocument(bytes, { bytes: MAX_CONFIG_BYTES, entries: MAX_CONFIG_ENTRIES, what: 'image config' })
  if (document.has('layers') || document.has('manifests')) throw document.fault('it is a manifest')
  const rootfs = document.object('rootfs')
  const type = rootfs?.text('type') ?? 'layers'
  if (type !== 'layers') throw document.fault('rootfs.type is not "layers"')
  const created = document.text('created')
  return {
    platform: platformOf(document),
    ...(created ? { created } : {}),
    config: defaultsOf(document.object('config')),
    diffIds: (rootfs?.texts('diff_ids') ?? []).map(parseDigest),
  }
}

function open(bytes: Uint8Array, what: string, expected: string | undefined, is: (type: string) => boolean): Document {
  const limits: Limits = { bytes: MAX_MANIFEST_BYTES, entries: MAX_ENTRIES, what }
  const document = parseDocument(bytes, limits)
  const said = document.text('mediaType') ?? ''
  if (said !== '' && !is(said)) throw document.fault(`it calls itself ${JSON.stringify(said.slice(0, 128))}`)
  if (said !== '' && expected !== undefined && said !== expected)
    throw document.fault(`it calls itself ${said}, not ${JSON.stringify(expected.slice(0, 128))}`)
  return document
}

function shared(document: Document) {
  const artifactType = document.text('artifactType')
  const subject = document.object('subject')
  return {
    mediaType: document.text('mediaType') ?? '',
    annotations: document.textMap('annotations') ?? {},
    ...(artifactType ? { artifactType } : {}),
    ...(subject ? { subject: descriptorOf(subject) } : {}),
  }
}

function descriptorOf(document: Document): Descriptor {
  const mediaType = document.text('mediaType')
  const digest = document.text('digest')
  const size = document.size('size')
  if (!mediaType || !digest || size === undefined) throw document.fault('mediaType, digest or size is missing')
  const annotations = document.textMap('annotations')
  const platform = document.object('platform')
  const urls = document.texts('urls')
  const artifactType = document.text('artifactType')
  return {
    mediaType,
    digest: parseDigest(digest),
    size,
    ...(annotations ? { annotations } : {}),
    ...(platform ? { platform: platformOf(platform) } : {}),
    ...(urls ? { urls } : {}),
    ...(artifactType ? { artifactType } : {}),
  }
}

/** The platform as OCI documents spell it, in descriptors and in image configs. */
function platformOf(document: Document): Platform {
  const variant = document.text('variant')
  const osVersion = document.text('os.version')
  const osFeatures = document.texts('os.features')
  return {
    os: document.text('os') ?? '',
    architecture: document.text('architecture') ?? '',
    ...(variant ? { variant } : {}),
    ...(osVersion ? { osVersion } : {}),
    ...(osFeatures?.length ? { osFeatures } : {}),
  }
}

function defaultsOf(config: Document | undefined): ImageDefaults {
  return {
    user: config?.text('User') ?? '',
    env: config?.texts('Env') ?? [],
    entrypoint: config?.texts('Entrypoint') ?? [],
    cmd: config?.texts('Cmd') ?? [],
    workingDir: config?.text('WorkingDir') ?? '',
    labels: config?.textMap('Labels') ?? {},
    volumes: config?.keys('Volumes') ?? [],
    exposedPorts: config?.keys('ExposedPorts') ?? [],
    stopSignal: config?.text('StopSignal') ?? '',
  }
}
