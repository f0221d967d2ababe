/**
 * The large images that pulls are measured with: the same bytes every time, kept in the data folder of a registry.
 *
 *   big    8 layers, few files, about 1.2 GB before compression
 *   many   8 layers, 60,000 small files
 *
 * Both compress to about a half.
 */
import { createHash } from 'node:crypto'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import { type Blob, imageOf, LAYER, manifestOf, sha256 } from '@gantry/e2e/harness/image'
import { pushBlob, pushManifest, startRegistry } from '@gantry/e2e/harness/registry'
import { type Entry, tar } from '@gantry/e2e/harness/tar'

const LAYERS = 8
const BIG_FILES = 3 // a layer
const BIG_BYTES = 50 * 1024 * 1024
const SMALL_FILES = 7500 // a layer
const SMALL_BYTES = 4096 // on average
const BLOCK = 64 * 1024
const LEVEL = 6

const TEXT = Buffer.from('What repeats itself is told in few words. '.repeat(BLOCK / 42))

export const LARGE = { big: bigLayer, many: manyLayer } as const

/** Pushes the images to the registry whose data lies in `data`, once for ever. */
export async function prepareFixtures(data: string): Promise<void> {
  const done = join(data, 'complete')
  if (existsSync(done)) return
  console.log(`Making the images in ${data} (once; about a minute)`)
  await using registry = await startRegistry({ data })
  for (const [name, layerOf] of Object.entries(LARGE)) await push(`http://${registry.host}/v2/${name}`, layerOf)
  await registry.push('small', '1', imageOf([tar([{ path: 'hello', data: 'hello' }])]))
  writeFileSync(done, '')
}

/** One layer after the other: they need not fit in memory together. */
async function push(repository: string, layerOf: (layer: number) => Entry[]): Promise<void> {
  const layers: Omit<Blob, 'bytes'>[] = []
  const diffIds: string[] = []
  for (let layer = 0; layer < LAYERS; layer++) {
    const archive = tar(layerOf(layer))
    const bytes = await promisify(gzip)(archive, { level: LEVEL })
    const blob = { mediaType: LAYER, size: bytes.length, digest: sha256(bytes) }
    await pushBlob(repository, { ...blob, bytes })
    layers.push(blob)
    diffIds.push(sha256(archive))
  }
  const { config, manifest } = manifestOf(layers, diffIds)
  await pushBlob(repository, config)
  await pushManifest(repository, '1', manifest)
}

function bigLayer(layer: number): Entry[] {
  return Array.from({ length: BIG_FILES }, (_, file) => ({
    path: `big-${layer}-${file}`,
    data: halfNoise(`big/${layer}/${file}`, BIG_BYTES),
  }))
}

function manyLayer(layer: number): Entry[] {
  const folders = Array.from({ length: SMALL_FILES / 100 }, (_, folder) => ({ path: `many-${layer}/${folder}/` }))
  const files = Array.from({ length: SMALL_FILES }, (_, file) => {
    const size = 64 + ((file * 7919) % (2 * (SMALL_BYTES - 64)))
    return { path: `many-${layer}/${file % folders.length}/${file}`, data: halfNoise(`many/${layer}/${file}`, size) }
  })
  return [{ path: `many-${layer}/` }, ...folders, ...files]
}

/** Bytes of which every second block, or half of one, is text. */
function halfNoise(seed: string, size: number): Buffer {
  const bytes = Buffer.alloc(size)
  const block = Math.min(BLOCK, Math.ceil(size / 2))
  for (let at = 0; at < size; at += 2 * block) {
    createHash('shake128', { outputLength: block }).update(`${seed}/${at}`).digest().copy(bytes, at)
    TEXT.copy(bytes, at + block)
  }
  return bytes
}
