import { describe, expect, test } from 'vitest'
import { archive, entry, file, folder, longName, type Part, symlink } from '../testing/archive.ts'
import { DEFAULT_LIMITS, type Limits } from './limits.ts'
import type { Entry } from './tar-header.ts'
import { createTarParser } from './tar-parser.ts'

interface Read extends Partial<Entry> {
  content: string
}

/** Parses `bytes` in pieces of `step` and answers the entries with their content. */
function read(bytes: Buffer, step = bytes.length, limits: Limits = DEFAULT_LIMITS): Read[] {
  const entries: Read[] = []
  const parser = createTarParser(
    {
      entry: (next) => entries.push({ ...next, content: '' }),
      data(piece) {
        const last = entries.at(-1)
        if (last) last.content += piece.toString('latin1')
      },
      end() {},
    },
    limits,
  )
  for (let offset = 0; offset < bytes.length; offset += step) parser.push(bytes.subarray(offset, offset + step))
  parser.end()
  return entries
}

const names = (...parts: Part[]) => read(archive(...parts)).map(({ name }) => name)

describe('reading', () => {
  test.each([1, 7, 511, 512, 513, 4096])('an archive cut into pieces of %d bytes reads the same', (step) => {
    const bytes = archive(
      folder('a/'),
      file('a/b', 'x'.repeat(1500)),
      file('a/empty'),
      longName('l'.repeat(300)),
      file('short', 'y'),
    )

    const entries = read(bytes, step)

    expect(entries.map(({ type, name, content }) => [type, name, content])).toEqual([
      ['folder', 'a/', ''],
      ['file', 'a/b', 'x'.repeat(1500)],
      ['file', 'a/empty', ''],
      ['file', 'l'.repeat(300), 'y'],
    ])
  })

  test('extended headers give names, owners, sizes, nanoseconds and binary attributes', () => {
    const capability = Buffer.from([1, 0, 0, 2, 0x80, 0xff, 0, 0x0a])
    const [only] = read(
      archive({
        name: 'short',
        content: 'abc',
        size: 0,
        pax: {
          path: 'a/ä',
          size: '3',
          uid: '4000000000',
          gid: '5',
          mtime: '1700000000.123456789',
          atime: '1.5',
          'SCHILY.xattr.security.capability': capability,
        },
      }),
    )

    expect(only).toMatchObject({
      name: Buffer.from('a/ä').toString('latin1'),
      size: 3,
      content: 'abc',
      uid: 4_000_000_000,
      gid: 5,
      mtime: 1_700_000_000_123_456_789n,
      atime: 1_500_000_000n,
      xattrs: new Map([['security.capability', capability]]),
    })
  })

  test('sizes and owners in base 256 are read', () => {
    const [only] = read(archive({ name: 'x', patch: [108, Buffer.from([0x80, 0, 0, 0, 0xee, 0x6b, 0x28, 0])] }))

    expect(only?.uid).toBe(4_000_000_000)
  })

  test('a ustar prefix, an old folder with a slash and a contiguous file are what they say', () => {
    const prefixed: Part = { name: 'name', patch: [345, Buffer.from('some/prefix')] }
    const old: Part = { name: 'dir/', flag: '\0' }

    expect(names(prefixed)).toEqual(['some/prefix/name'])
    expect(read(archive(old, { name: 'c', flag: '7' })).map(({ type }) => type)).toEqual(['folder', 'file'])
  })

  test('a time outside of 1970 to 2262 becomes 1970', () => {
    const times = ['-5', '99999999999', '12.9999999999'].map(
      (mtime) => read(archive({ name: 'x', pax: { mtime } }))[0]?.mtime,
    )

    expect(times).toEqual([0n, 0n, 12_999_999_999n])
  })

  test('a header for all, as git writes it, changes nothing', () => {
    expect(names({ name: 'pax', flag: 'g', content: '20 path=somewhere\n\n' }, file('a'))).toEqual(['a'])
  })

  test('the end may be two blocks of zeros, one, or none, and anything may follow it', () => {
    const one = entry(file('a', 'b'))
    const rest = Buffer.from('anything at all')

    expect(read(one)).toHaveLength(1)
    expect(read(Buffer.concat([one, Buffer.alloc(512)]))).toHaveLength(1)
    expect(read(Buffer.concat([one, Buffer.alloc(1024), rest]))).toHaveLength(1)
    expect(read(Buffer.alloc(0))).toEqual([])
  })
})

describe('refusing', () => {
  test.each([
    ['cut off in a header', entry(file('a')).subarray(0, 300)],
    ['cut off in a content', entry(file('a', 'x'.repeat(600))).subarray(0, 700)],
    ['cut off in the padding', entry(file('a', 'x')).subarray(0, 600)],
    ['cut off in an extended header', entry({ name: 'a', pax: { path: 'b' } }).subarray(0, 520)],
    ['with a wrong checksum', Buffer.from(entry(file('a'))).fill('z', 0, 1)],
    ['that goes on after a block of zeros', Buffer.concat([Buffer.alloc(512), entry(file('a'))])],
    ['with a negative size', archive({ name: 'a', patch: [124, Buffer.alloc(12, 0xff)] })],
    ['with a huge size', archive({ name: 'a', patch: [124, Buffer.from([0x80, 0, 0, 0xff, 0, 0, 0, 0, 0, 0, 0, 0])] })],
    ['with a size that is no number', archive({ name: 'a', patch: [124, Buffer.from('12z')] })],
    ['with a negative owner', archive({ name: 'a', patch: [108, Buffer.alloc(8, 0xff)] })],
    ['with an owner that no kernel takes', archive({ name: 'a', pax: { uid: '4294967295' } })],
    ['with a negative size in an extended header', archive({ name: 'a', pax: { size: '-1' } })],
    ['with a time that is none', archive({ name: 'a', pax: { mtime: 'yesterday' } })],
    ['with a NUL in a name', archive({ name: 'a', pax: { path: 'b\0c' } })],
    [
      'with a record that does not fit its length',
      archive({ name: 'pax', flag: 'x', content: '99 path=a\n' }, file('a')),
    ],
    ['with a record without length', archive({ name: 'pax', flag: 'x', content: 'path=a\n' }, file('a'))],
    ['of unknown types', archive({ name: 'a', flag: 'Z' })],
  ])('an archive %s is the fault of the archive', (_, bytes) => {
    expect(() => read(Buffer.from(bytes))).toThrow(expect.objectContaining({ name: 'Fault', code: 'invalid-argument' }))
  })

  const holes = (map: string, size = 4, content = 'abcd') =>
    archive({ name: 'a', content, pax: { 'GNU.sparse.map': map, 'GNU.sparse.size': String(size) } })
  const before = (map: string) => {
    const numbers = Buffer.alloc(512)
    numbers.write(map)
    const pax = { 'GNU.sparse.major': '1', 'GNU.sparse.minor': '0', 'GNU.sparse.realsize': '9' }
    return archive({ name: 'a', content: Buffer.concat([numbers, Buffer.from('abcd')]), pax })
  }
  const old = (offset: string) =>
    archive({
      name: 'a',
      flag: 'S',
      content: 'abcd',
      patch: [386, Buffer.from(`${offset}\0${'4'.padStart(11, '0')}\0`)],
    })

  test.each([
    ['an encoding of the future', archive({ name: 'a', pax: { 'GNU.sparse.major': '2', 'GNU.sparse.minor': '0' } })],
    ['an odd map', holes('0')],
    ['a map that goes back', holes('2,2,0,2')],
    ['a map that overlaps', holes('0,3,2,1')],
    ['a map beyond the end', holes('1,4')],
    ['a map of less than the content', holes('0,3')],
    ['a map of more than the content', holes('0,4,4,4', 8)],
    ['a negative number', holes('-1,4')],
    ['a number without end', holes(`${'9'.repeat(30)},4`)],
    ['a size without end', holes('0,4', 1e300)],
    ['no size', archive({ name: 'a', content: 'abcd', pax: { 'GNU.sparse.map': '0,4' } })],
    ['a map in the content that is no map', before('x\n')],
    ['a map in the content that never ends', before('3\n0\n4\n')],
    ['an old map without numbers', old('xxxxxxxxxxx')],
    ['an old map beyond the end', old('77777777777')],
  ])('a file whose holes are told by %s is the fault of the archive', (_, bytes) => {
    expect(() => read(bytes)).toThrow(expect.objectContaining({ name: 'Fault', code: 'invalid-argument' }))
  })

  test('a file with holes that is larger than a layer may be, or takes too long to tell, is too much', () => {
    const limits = { ...DEFAULT_LIMITS, plainBytes: 1000 }

    expect(() => read(holes('0,4', 1001), 512, limits)).toThrow(
      'a file with holes is 1001 bytes long and 1000 is the most',
    )
    const endless = Buffer.alloc(2 * 1024 * 1024, '7\n')
    const pax = { 'GNU.sparse.major': '1', 'GNU.sparse.minor': '0', 'GNU.sparse.realsize': '9' }
    endless.write('999999999\n')
    expect(() => read(archive({ name: 'a', content: endless, pax }))).toThrow('take over 1048576 bytes to tell')
  })

  test('more entries than allowed are too many, extended headers included', () => {
    const limits = { ...DEFAULT_LIMITS, entries: 3 }
    const bytes = archive({ name: 'a', pax: { path: 'b' } }, symlink('c', 'd'), file('e'))

    expect(() => read(bytes, 512, limits)).toThrow('more than 3 entries')
  })

  test('an extended header that is too large is refused before it is read', () => {
    const bytes = entry({ name: 'pax', flag: 'x', size: 2 ** 30 })

    expect(() => read(bytes)).toThrow('an extended header takes 1073741824 bytes')
  })
})
