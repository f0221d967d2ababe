import { randomBytes } from 'node:crypto'
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { openGunzip } from '@gantry/linux/gunzip'
import { codecOf } from '@gantry/model/codec'
import { createFrameFilter } from '@gantry/model/zstd-frames'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { DEFAULT_LIMITS } from './limits.ts'
import { plainStream, type Reading } from './plain-stream.ts'

const plain = Buffer.concat([randomBytes(400_000), Buffer.alloc(400_000)])
const gzip = gzipSync(plain)
const zstd = zstdCompressSync(plain)
const skippable = Buffer.concat([Buffer.from([0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0]), Buffer.from('note')])

let root: string
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'gantry-plain-'))
})
afterAll(() => rmSync(root, { recursive: true }))

/** As it is decoded without, and with, what a host may have. */
const DECODERS = [{ openGunzip: undefined }, ...(openGunzip ? [{ openGunzip }] : [])]

async function read(blob: Buffer, how: Partial<Reading>): Promise<Buffer> {
  const reading = { detect: true, limits: DEFAULT_LIMITS, openGunzip: undefined, ...how }
  const path = join(root, 'blob')
  writeFileSync(path, blob)
  const fd = openSync(path, 'r')
  try {
    const chunks: Buffer[] = []
    for await (const chunk of plainStream({ fd, arriving: undefined, rest() {} }, reading))
      chunks.push(Buffer.from(chunk))
    return Buffer.concat(chunks)
  } finally {
    closeSync(fd)
  }
}

describe('decoding', () => {
  test.each([
    ['plain', plain, plain],
    ['gzip', gzip, plain],
    ['gzip in two members', Buffer.concat([gzip, gzip]), Buffer.concat([plain, plain])],
    ['zstd', zstd, plain],
    ['zstd in two frames', Buffer.concat([zstd, zstd]), Buffer.concat([plain, plain])],
    [
      'zstd with skippable frames before, between and behind',
      Buffer.concat([skippable, zstd, skippable, zstd, skippable]),
      Buffer.concat([plain, plain]),
    ],
    ['an empty blob', Buffer.alloc(0), Buffer.alloc(0)],
  ])('%s comes out plain', async (_, blob, expected) => {
    for (const decoder of DECODERS) expect((await read(blob, decoder)).equals(expected)).toBe(true)
  })

  test('a type that promises a plain archive is not decompressed', async () => {
    expect((await read(gzip, { detect: false })).equals(gzip)).toBe(true)
  })

  test('codecs are known by their first bytes', () => {
    expect([gzip, zstd, skippable, plain, Buffer.alloc(0)].map(codecOf)).toEqual([
      'gzip',
      'zstd',
      'zstd',
      'none',
      'none',
    ])
  })

  test.each([1, 2, 3, 5, 1000])('frames cut into pieces of %d bytes are followed', (step) => {
    const blob = Buffer.concat([skippable, zstdCompressSync(Buffer.alloc(1000)), skippable])
    const pieces = Array.from({ length: Math.ceil(blob.length / step) }, (_, index) =>
      blob.subarray(index * step, (index + 1) * step),
    )

    const filter = createFrameFilter()
    const passed = pieces.flatMap((piece) => filter.push(piece))
    filter.end()

    expect(Buffer.concat(passed)).toEqual(zstdCompressSync(Buffer.alloc(1000)))
  })
})

describe('refusing', () => {
  test.each([
    ['gzip cut off', gzip.subarray(0, gzip.length - 10)],
    ['gzip with a wrong checksum', Buffer.concat([gzip.subarray(0, gzip.length - 8), Buffer.alloc(8)])],
    ['gzip with rubbish behind', Buffer.concat([gzip, Buffer.from('rubbish')])],
    ['zstd cut off', zstd.subarray(0, zstd.length - 10)],
    ['zstd cut off in its second frame', Buffer.concat([zstd, zstd]).subarray(0, zstd.length + 1000)],
    ['zstd with rubbish behind', Buffer.concat([zstd, Buffer.from('rubbish')])],
  ])('%s is the fault of the blob', async (_, blob) => {
    for (const decoder of DECODERS)
      await expect(read(blob, decoder)).rejects.toMatchObject({ name: 'Fault', code: 'invalid-argument' })
  })

  test('more plain bytes than allowed are too many', async () => {
    const limits = { ...DEFAULT_LIMITS, plainBytes: 500_000 }

    for (const decoder of DECODERS)
      await expect(read(gzip, { limits, ...decoder })).rejects.toThrow('more than 500000 plain bytes')
  })

  test.each([
    ['gzip', gzipSync],
    ['zstd', zstdCompressSync],
  ])('a %s bomb stops at the ratio', async (_, compress) => {
    const limits = { ...DEFAULT_LIMITS, ratioFromBytes: 1024 * 1024, ratio: 100 }

    const bomb = compress(Buffer.alloc(64 * 1024 * 1024))
    for (const decoder of DECODERS)
      await expect(read(bomb, { limits, ...decoder })).rejects.toThrow('over 100 times its size')
  })
})
