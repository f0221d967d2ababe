/** The image the tests, the demo and the benches run: two layers around Debian's static busybox, the same bytes every time. */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { gzipSync } from 'node:zlib'
import { type Entry, tar } from './tar.ts'

const BUSYBOX = '/bin/busybox'
export const MANIFEST = 'application/vnd.oci.image.manifest.v1+json'
const INDEX = 'application/vnd.oci.image.index.v1+json'
const CONFIG = 'application/vnd.oci.image.config.v1+json'
export const LAYER = 'application/vnd.oci.image.layer.v1.tar+gzip'

export interface Blob {
  readonly mediaType: string
  readonly digest: string
  readonly size: number
  readonly bytes: Uint8Array
}

export interface Image {
  readonly manifest: Blob
  readonly config: Blob
  readonly layers: readonly Blob[]
  readonly diffIds: readonly string[]
}

/** `sh` and all of busybox's applets, some accounts, an environment; the second layer adds one file and removes another. */
export function makeImage(): Image {
  const applets = execFileSync(BUSYBOX, ['--list'], { encoding: 'utf8' })
    .split('\n')
    .filter((name) => name && name !== 'busybox')
  const base: Entry[] = [
    ...[
      'bin/',
      'dev/',
      'etc/',
      'home/',
      'home/demo/',
      'proc/',
      'root/',
      'run/',
      'sys/',
      'usr/',
      'usr/bin/',
      'var/',
    ].map((path) => ({ path })),
    { path: 'tmp/', mode: 0o1777 },
    { path: 'bin/busybox', data: readFileSync(BUSYBOX), mode: 0o755 },
    ...applets.map((name) => ({ path: `bin/${name}`, link: '/bin/busybox' })),
    { path: 'etc/passwd', data: 'root:x:0:0:root:/root:/bin/sh\ndemo:x:1000:1000:demo:/home/demo:/bin/sh\n' },
    { path: 'etc/group', data: 'root:x:0:\ndemo:x:1000:\n' },
    { path: 'etc/removed', data: 'the second layer removes this\n' },
  ]
  const top: Entry[] = [
    { path: 'etc/' },
    { path: 'etc/.wh.removed' },
    { path: 'etc/motd', data: 'from the second layer\n' },
    { path: 'home/demo/', uid: 1000, gid: 1000 },
    { path: 'home/demo/own', data: 'mine\n', uid: 1000, gid: 1000, mode: 0o600 },
  ]
  return imageOf([tar(base), tar(top)], { Env: ['PATH=/bin:/usr/bin', 'GREETING=hello'], Cmd: ['sh'], WorkingDir: '/' })
}

/** An image of these plain tar archives, base first. Its config promises their diff IDs, or the ones given. */
export function imageOf(
  archives: readonly Uint8Array[],
  config: Readonly<Record<string, unknown>> = { Env: ['PATH=/bin'] },
  diffIds: readonly string[] = archives.map((archive) => sha256(archive)),
): Image {
  const layers = archives.map((archive) => layerOf(archive))
  return { ...manifestOf(layers, diffIds, config), layers, diffIds }
}

/** @param level of the compression; 0 for what only costs time */
export function layerOf(archive: Uint8Array, level = 6): Blob {
  return blob(LAYER, gzipSync(archive, { level }))
}

/** Config and manifest of an image with these layers. */
export function manifestOf(
  layers: readonly Omit<Blob, 'bytes'>[],
  diffIds: readonly string[],
  config: Readonly<Record<string, unknown>> = { Env: ['PATH=/bin'] },
): Pick<Image, 'manifest' | 'config'> {
  const architecture = process.arch === 'x64' ? 'amd64' : process.arch
  const document = blob(
    CONFIG,
    json({ architecture, os: 'linux', config, rootfs: { type: 'layers', diff_ids: diffIds } }),
  )
  const refer = ({ mediaType, digest, size }: Omit<Blob, 'bytes'>) => ({ mediaType, digest, size })
  const manifest = { schemaVersion: 2, mediaType: MANIFEST, config: refer(document), layers: layers.map(refer) }
  return { manifest: blob(MANIFEST, json(manifest)), config: document }
}

/** An index of images by their platform, such as `linux/amd64`. */
export function indexOf(images: Readonly<Record<string, Image>>): Blob {
  const manifests = Object.entries(images).map(([platform, { manifest }]) => {
    const [os, architecture] = platform.split('/')
    return {
      mediaType: manifest.mediaType,
      digest: manifest.digest,
      size: manifest.size,
      platform: { os, architecture },
    }
  })
  return blob(INDEX, json({ schemaVersion: 2, mediaType: INDEX, manifests }))
}

function blob(mediaType: string, bytes: Uint8Array): Blob {
  return { mediaType, bytes, size: bytes.length, digest: sha256(bytes) }
}

export function sha256(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value))
}
