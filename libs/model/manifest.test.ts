import { expect, test } from 'vitest'
import { chainId, chainIds } from './chain-id.ts'
import { MEDIA } from './descriptor.ts'
import { type Digest, sha256Of } from './digest.ts'
import { MAX_MANIFEST_BYTES, parseImageConfig, parseIndex, parseManifest } from './manifest.ts'
import { refKey } from './refkey.ts'

const A = sha256Of('a')
const B = sha256Of('b')
const config = { mediaType: MEDIA.ociConfig, digest: A, size: 10 }
const layer = {
  mediaType: MEDIA.ociLayerGzip,
  digest: B,
  size: 20,
  annotations: { x: '1' },
  urls: ['https://example.com/'],
}
const manifest = { schemaVersion: 2, mediaType: MEDIA.ociManifest, config, layers: [layer] }
const child = {
  mediaType: MEDIA.ociManifest,
  digest: A,
  size: 5,
  platform: { os: 'linux', architecture: 'arm', variant: 'v7' },
}
const index = { schemaVersion: 2, manifests: [child] }

test('a manifest is read into config and layers', () => {
  expect(parseManifest(bytes(manifest), MEDIA.ociManifest)).toEqual({
    mediaType: MEDIA.ociManifest,
    annotations: {},
    config: { ...config, size: 10n },
    layers: [{ ...layer, size: 20n }],
  })
})

test('an index is read into manifests with their platforms', () => {
  expect(parseIndex(bytes(index), MEDIA.dockerIndex)).toEqual({
    mediaType: '',
    annotations: {},
    manifests: [{ ...child, size: 5n }],
  })
})

test.each([
  ['manifests beside layers (CVE-2021-41190)', { ...manifest, manifests: [] }],
  ['the media type of an index', { ...manifest, mediaType: MEDIA.ociIndex }],
  ['another media type than its descriptor', { ...manifest, mediaType: MEDIA.dockerManifest }],
  ['schema 1 layers', { ...manifest, fsLayers: [] }],
  ['no config', { layers: [] }],
  ['no layers', { config }],
  ['layers that are no list', { ...manifest, layers: {} }],
  ['a layer that is no object', { ...manifest, layers: ['x'] }],
  ['a path for a digest (CVE-2024-3727)', { ...manifest, layers: [{ ...layer, digest: 'sha256:../x' }] }],
  ['a negative size', { ...manifest, layers: [{ ...layer, size: -1 }] }],
  ['a size past the exact numbers', { ...manifest, layers: [{ ...layer, size: 2 ** 60 }] }],
  ['a size in quotes', { ...manifest, layers: [{ ...layer, size: '20' }] }],
  ['thousands of layers', { ...manifest, layers: Array(2000).fill(layer) }],
  ['annotations that are no texts', { ...manifest, annotations: { x: 1 } }],
])('a manifest with %s is refused', (_, document) => {
  expect(() => parseManifest(bytes(document), MEDIA.ociManifest)).toThrow(/^Cannot (read|use)/)
})

test.each([
  ['layers beside manifests (CVE-2021-41190)', { ...index, layers: [] }],
  ['a config', { ...index, config }],
  ['no manifests', {}],
  ['the media type of a manifest', { ...index, mediaType: MEDIA.ociManifest }],
  ['a great many manifests (CVE-2026-53493)', { manifests: Array(2000).fill(child) }],
])('an index with %s is refused', (_, document) => {
  expect(() => parseIndex(bytes(document))).toThrow('Cannot read the index')
})

test.each([
  ['nothing', ''],
  ['broken JSON', '{'],
  ['a list', '[]'],
  ['null', 'null'],
  ['lists nested without end', '['.repeat(1_000_000)],
  ['more bytes than allowed', ' '.repeat(MAX_MANIFEST_BYTES + 1)],
])('a document of %s is refused', (_, text) => {
  expect(() => parseManifest(Buffer.from(text))).toThrow('Cannot read the manifest')
})

test('a document that is not UTF-8 is refused', () => {
  expect(() => parseIndex(Buffer.from([0x7b, 0xff, 0x7d]))).toThrow('not valid JSON')
})

test('an image config is read, null and absent alike', () => {
  const document = {
    os: 'linux',
    architecture: 'amd64',
    config: { User: 'web', Env: ['A=1'], Cmd: null, Entrypoint: ['/run'], Volumes: { '/data': {} } },
    rootfs: { type: 'layers', diff_ids: [A, B] },
  }

  expect(parseImageConfig(bytes(document))).toEqual({
    platform: { os: 'linux', architecture: 'amd64' },
    config: {
      user: 'web',
      env: ['A=1'],
      entrypoint: ['/run'],
      cmd: [],
      workingDir: '',
      labels: {},
      volumes: ['/data'],
      exposedPorts: [],
      stopSignal: '',
    },
    diffIds: [A, B],
  })
})

test.each([
  ['is a manifest', manifest],
  ['names another rootfs type', { rootfs: { type: 'tar' } }],
  ['has a broken diff ID', { rootfs: { type: 'layers', diff_ids: ['x'] } }],
  ['has a NUL in Env', { config: { Env: ['A=\0'] } }],
])('an image config that %s is refused', (_, document) => {
  expect(() => parseImageConfig(bytes(document))).toThrow(/^Cannot (read|use)/)
})

test('a chain ID hashes the chain below and the diff ID on top', () => {
  const top = sha256Of(`${A} ${B}`)

  expect(chainId('', A)).toBe(A)
  expect(chainIds([A, B])).toEqual([A, top])
  expect(chainIds([])).toEqual([])
})

test.each([
  [MEDIA.ociIndex, 'index'],
  [MEDIA.dockerManifest, 'manifest'],
  [MEDIA.dockerLayerGzip, 'layer'],
  ['application/vnd.oci.image.layer.v1.tar+new', 'layer'],
  [MEDIA.ociConfig, 'config'],
  [MEDIA.inToto, 'attestation'],
  ['text/plain', 'unknown'],
])('the ref of %s begins with %s', (mediaType, kind) => {
  expect(refKey({ mediaType, digest: A, size: 1n })).toBe(`${kind}-${A}`)
})

test('a ref carries the name an annotation gives, unless that is rubbish', () => {
  const named = (name: string) => ({
    mediaType: MEDIA.ociLayer,
    digest: A as Digest,
    size: 1n,
    annotations: { 'org.opencontainers.image.ref.name': name },
  })

  expect(refKey(named('box'))).toBe(`layer-box@${A}`)
  expect(refKey(named('a\nb'))).toBe(`layer-${A}`)
})

function bytes(document: unknown): Uint8Array {
  return Buffer.from(JSON.stringify(document))
}
