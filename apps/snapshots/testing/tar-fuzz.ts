/** Random archives: tame ones, which GNU tar must lay out the same, and wild ones, which must do no harm. */
import fc from 'fast-check'
import { archive, entry, longName, type Part } from './archive.ts'

const TAME = ['a', 'b', 'c', 'ü', 'with space', 'n'.repeat(120)]
const WILD = [...TAME, '.', '..', '', '.wh.a', '.wh.b', '.wh..wh..opq', '.wh..wh.x', '.wh..', '\xff', 'x'.repeat(300)]
const PAX = [
  'path',
  'linkpath',
  'size',
  'uid',
  'gid',
  'mtime',
  'atime',
  'SCHILY.xattr.user.a',
  'SCHILY.xattr.trusted.overlay.opaque',
  'SCHILY.xattr.security.capability',
  'GNU.sparse.major',
  'GNU.sparse.minor',
  'GNU.sparse.name',
  'GNU.sparse.map',
  'GNU.sparse.size',
  'GNU.sparse.realsize',
  'GNU.sparse.offset',
  'GNU.sparse.numbytes',
]
const VALUES = ['', '0', '1', '0,1', '1,0,3,0', '../secret', '/secret', '-1', '9'.repeat(19), '1.5', 'y', 'a\0b', '..']

const pathOf = (names: readonly string[], most: number) =>
  fc.array(fc.constantFrom(...names), { minLength: 1, maxLength: most }).map((parts) => parts.join('/'))
const content = fc.oneof(
  fc.string({ maxLength: 20 }),
  fc.integer({ min: 0, max: 3000 }).map((size) => 'z'.repeat(size)),
)

/** Once in about `times`. */
function rarely<T>(times: number, arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> {
  return fc.oneof({ arbitrary: fc.constant(undefined), weight: times }, { arbitrary, weight: 1 })
}

/** Names that are kept to 100 bytes as text, and longer ones said in the POSIX way. */
function named(path: string, more: Omit<Part, 'name'>): Part {
  const bytes = Buffer.from(path)
  return bytes.length > 100
    ? { ...more, name: 'long', pax: { path: bytes, ...more.pax } }
    : { ...more, name: bytes.toString('latin1') }
}

const tamePart: fc.Arbitrary<Part> = fc
  .record({
    path: pathOf(TAME, 4),
    flag: fc.constantFrom('0', '0', '0', '5', '5', '2', '1', '6', '3'),
    mode: fc.constantFrom(0o644, 0o755, 0o4711, 0o2750, 0o1777, 0o000),
    owner: fc.constantFrom(0, 1, 1000, 70_000),
    mtime: fc.integer({ min: 1, max: 1_700_000_000 }),
    fraction: fc.integer({ min: 0, max: 999_999_999 }),
    content,
    link: pathOf(TAME, 2),
    xattr: fc.constantFrom(undefined, 'a', 'b=c\n'),
  })
  .map(({ path, flag, content, xattr, fraction, ...part }) => {
    const mtime = `${part.mtime}.${String(fraction).padStart(9, '0')}`
    const linked = flag === '1' || flag === '2'
    const link = linked ? Buffer.from(part.link) : Buffer.alloc(0)
    const pax = {
      mtime,
      ...(link.length > 100 ? { linkpath: link } : {}),
      ...(xattr === undefined || flag !== '0' ? {} : { 'SCHILY.xattr.user.x': xattr }),
    }
    return named(path, {
      flag,
      link: link.toString('latin1'),
      mode: part.mode,
      uid: part.owner,
      gid: part.owner,
      mtime: part.mtime,
      content: flag === '0' ? content : '',
      device: flag === '3' ? [1, 3] : [0, 0],
      pax,
    })
  })

export const tameArchive: fc.Arbitrary<readonly Part[]> = fc.array(tamePart, { minLength: 1, maxLength: 12 })

const wildPart = (outside: string): fc.Arbitrary<Part> => {
  const path = fc.oneof(
    pathOf(WILD, 6),
    fc.constantFrom(outside, `${outside}/secret`, '../secret', '../../secret', '/'),
  )
  return fc
    .record({
      path,
      flag: fc.constantFrom('0', '0', '5', '2', '2', '1', '6', '3', '4', '7', 'S', 'g', 'x', 'L', 'K', '\0'),
      link: path,
      mode: fc.integer({ min: 0, max: 0o7777777 }),
      uid: fc.constantFrom(0, 1000, 0o7777777),
      content,
      size: rarely(20, fc.integer({ min: 0, max: 5000 })),
      pax: rarely(5, fc.dictionary(fc.constantFrom(...PAX), fc.constantFrom(...VALUES, outside), { maxKeys: 3 })),
      device: fc.constantFrom([0, 0] as const, [1, 3] as const, [0o7777777, 1] as const),
      patch: rarely(20, fc.tuple(fc.integer({ min: 0, max: 500 }), fc.uint8Array({ minLength: 1, maxLength: 12 }))),
    })
    .map(({ path, link, size, pax, patch, ...part }) => ({
      ...part,
      name: Buffer.from(path).toString('latin1'),
      link: Buffer.from(link).toString('latin1'),
      ...(size === undefined ? {} : { size }),
      ...(pax === undefined ? {} : { pax }),
      ...(patch === undefined ? {} : { patch: [patch[0], Buffer.from(patch[1])] as const }),
    }))
}

/** Parts that may lie about everything, and bytes changed after the checksums were made. */
export function wildBytes(outside: string): fc.Arbitrary<Buffer> {
  const parts = fc.array(fc.oneof({ arbitrary: wildPart(outside), weight: 4 }, { arbitrary: tamePart, weight: 2 }), {
    minLength: 1,
    maxLength: 12,
  })
  const damage = fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { maxLength: 2 })
  return fc.record({ parts, damage, isDamaged: fc.nat({ max: 4 }), cut: fc.nat({ max: 9 }) }).map((made) => {
    const long = made.parts.flatMap((part) => (part.name.length > 100 ? [longName(part.name), part] : [part]))
    const bytes = made.cut === 0 ? Buffer.concat(long.map(entry)) : archive(...long)
    if (made.isDamaged === 0) for (const [at, byte] of made.damage) bytes[at % bytes.length] = byte
    return bytes
  })
}
