import { createHash } from 'node:crypto'
import { type Image, layerOf, manifestOf, sha256 } from './image.ts'
import { type Entry, tar } from './tar.ts'

const FILES = 1000 // a layer
const FILE_BYTES = 2048
const LARGE_BYTES = 6 * 1024 * 1024
const GIANT_BYTES = 40 * 1024 * 1024

/** Three layers of many small files and a large one; every `round` has bytes of its own. */
export function largeImage(round: number): Image {
  return imageOf([0, 1, 2].map((layer) => tar(entries(`${round}/${layer}`))))
}

/** One layer, which comes in parts. */
export function giantImage(round: number): Image {
  return imageOf([tar([{ path: 'giant', data: noise(`${round}/giant`, GIANT_BYTES) }])])
}

function imageOf(archives: readonly Buffer[]): Image {
  const layers = archives.map((archive) => layerOf(archive, 0)) // noise does not get smaller
  const diffIds = archives.map(sha256)
  return { ...manifestOf(layers, diffIds), layers, diffIds }
}

function entries(seed: string): Entry[] {
  const folder = seed.replace('/', '-')
  const small = Array.from({ length: FILES }, (_, index) => ({
    path: `d${folder}/f${index}`,
    data: noise(`${seed}/${index}`, FILE_BYTES),
  }))
  return [{ path: `d${folder}/` }, ...small, { path: `d${folder}/large`, data: noise(seed, LARGE_BYTES) }]
}

/** Bytes that do not compress and are the same every time: a hash chain seeds blocks. */
function noise(seed: string, size: number): Buffer {
  return createHash('shake128', { outputLength: size }).update(seed).digest()
}
