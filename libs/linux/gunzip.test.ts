import { randomBytes } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { openGunzip } from './gunzip.ts'

const plain = Buffer.concat([randomBytes(20_000), Buffer.alloc(700_000, 'again and again, '), randomBytes(100)])
const gzip = Buffer.concat([gzipSync(plain), gzipSync(Buffer.alloc(0)), gzipSync(plain, { level: 1 })])
const twice = Buffer.concat([plain, plain])

describe.skipIf(!openGunzip)('gunzip in one thread (skipped without libisal2)', () => {
  test.each([1, 7, 1000, 65_536, 1_000_000])('members cut into pieces of %d bytes come out plain', (size) => {
    expect(decode(gzip, size).equals(twice)).toBe(true)
  })

  test('headers with a name, a comment and extra bytes are passed over', () => {
    const extra = Buffer.from([0x1f, 0x8b, 8, 0x1c, 0, 0, 0, 0, 0, 3, 2, 0, 1, 2, ...Buffer.from('name\0comment\0')])

    expect(decode(Buffer.concat([extra, gzipSync(plain).subarray(10)]), 5).equals(plain)).toBe(true)
  })

  test('zeros behind the last member are padding', () => {
    expect(decode(Buffer.concat([gzip, Buffer.alloc(1000)]), 600).equals(twice)).toBe(true)
  })

  test.each([
    ['a member that is cut off', gzip.subarray(0, gzip.length - 3)],
    ['a cut-off header', Buffer.concat([gzip, Buffer.from([0x1f, 0x8b])])],
    ['a wrong checksum', changed(gzip, gzip.length - 8)],
    ['a wrong length', changed(gzip, gzip.length - 4)],
    ['rubbish behind', Buffer.concat([gzip, Buffer.from('rubbish')])],
    ['rubbish', Buffer.concat([Buffer.from([0x1f, 0x8b, 8]), randomBytes(1000)])],
    ['another method than deflate', changed(gzip, 2)],
  ])('%s is an error', (_, blob) => {
    expect(() => decode(blob, 1000)).toThrow()
  })

  test('whatever is changed, it ends', () => {
    const small = gzipSync(Buffer.concat([randomBytes(500), Buffer.alloc(9000, 'again and again, '), randomBytes(500)]))
    for (let at = 0; at < small.length; at++) {
      try {
        decode(changed(small, at), 1 + ((at * 31) % small.length))
      } catch (error) {
        expect(error).toBeInstanceOf(Error)
      }
    }
  })
})

function decode(blob: Buffer, size: number): Buffer {
  if (!openGunzip) throw new Error('There is no decoder')
  using gunzip = openGunzip()
  const pieces: Buffer[] = []
  for (let at = 0, length = 0; at < blob.length; at += length) {
    length = blob.copy(gunzip.input, 0, at, at + size)
    for (const piece of gunzip.decode(length)) pieces.push(Buffer.from(piece))
  }
  gunzip.end()
  return Buffer.concat(pieces)
}

function changed(bytes: Buffer, at: number): Buffer {
  const other = Buffer.from(bytes)
  other.writeUInt8(other.readUInt8(at) ^ 0x10, at)
  return other
}
