import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { readFlatTar } from './flat-tar.ts'

let folder: string

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'gantry-flat-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

/** An archive by Debian's tar. */
function tar(...args: string[]): Buffer {
  return execFileSync('tar', ['--create', '--directory', folder, ...args], { maxBuffer: 1e9 })
}

/** In pieces of a size that is no one's multiple. @param closed is told when nobody reads on */
async function* piecesOf(bytes: Uint8Array, closed = () => undefined as unknown): AsyncGenerator<Uint8Array> {
  try {
    for (let at = 0; at < bytes.length; at += 333) yield bytes.subarray(at, at + 333)
  } finally {
    closed()
  }
}

async function filesIn(bytes: Uint8Array): Promise<[name: string, text: string][]> {
  const files: [string, string][] = []
  for await (const { name, bytes: content } of readFlatTar(piecesOf(bytes), signal))
    files.push([name, Buffer.concat(await Array.fromAsync(content)).toString()])
  return files
}

/** A header by hand, with a right sum. */
function header(change: { name?: string; type?: string; size?: string | Buffer; link?: string }): Buffer {
  const block = Buffer.alloc(512)
  block.write(change.name ?? 'a.img', 0)
  const size = change.size ?? '00000000000'
  if (typeof size === 'string') block.write(size, 124)
  else size.copy(block, 124)
  block.write(change.type ?? '0', 156)
  block.write(change.link ?? '', 157)
  block.write('ustar\x0000', 257)
  block.fill(' ', 148, 156)
  block.write(
    `${block
      .reduce((sum, byte) => sum + byte)
      .toString(8)
      .padStart(6, '0')}\0 `,
    148,
  )
  return block
}

const END = Buffer.alloc(1024)
const signal = new AbortController().signal

test.each(['gnu', 'ustar', 'pax'])('files come as they were packed, by %s', async (format) => {
  const large = 'x'.repeat(2000)
  for (const [name, text] of [
    ['core-1.img', 'one'],
    ['empty.img', ''],
    ['pages-1.img', large],
  ] as const)
    writeFileSync(join(folder, name), text)

  const all = await filesIn(tar(`--format=${format}`, '--sort=name', '.'))

  expect(all).toEqual([
    ['core-1.img', 'one'],
    ['empty.img', ''],
    ['pages-1.img', large],
  ])
})

test('what is larger than an octal number can say has its size in binary or in an extension', async () => {
  const binary = Buffer.alloc(12)
  binary[0] = 0x80
  binary.writeUInt32BE(3, 8)
  const record = '10 size=3\n'
  const extension = [header({ type: 'x', size: record.length.toString(8).padStart(11, '0') }), padded(record)]
  const wrong = header({ name: 'b.img', size: '00000000777' })

  expect(
    await filesIn(Buffer.concat([header({ size: binary }), padded('abc'), ...extension, wrong, padded('def'), END])),
  ).toEqual([
    ['a.img', 'abc'],
    ['b.img', 'def'],
  ])
})

const padded = (text: string) => Buffer.concat([Buffer.from(text), Buffer.alloc(512 - text.length)])

test.each<[string, Buffer[]]>([
  ['a symbolic link', [header({ type: '2', link: '/etc/passwd' })]],
  ['a hard link', [header({ type: '1', link: '/etc/passwd' })]],
  ['a device', [header({ type: '3' })]],
  ['a folder', [header({ type: '5', name: 'down/' })]],
  ['a sparse file', [header({ type: 'S' })]],
  ['a name that climbs', [header({ name: '../a.img' })]],
  ['a name that is the folder above', [header({ name: '..' })]],
  ['an absolute name', [header({ name: '/a.img' })]],
  ['a name in a folder', [header({ name: 'down/a.img' })]],
  ['no name', [header({ name: '' })]],
  [
    'a name in an extension that climbs',
    [header({ type: 'x', size: '00000000013' }), padded('11 path=..\n'), header({})],
  ],
  ['an extension without end', [header({ type: 'x', size: '77777777777' })]],
  ['a damaged header', [Buffer.alloc(512, 'x')]],
  ['half a file', [header({ size: '00000000100' }), Buffer.from('half')]],
])('%s is refused', async (_, blocks) => {
  await expect(filesIn(Buffer.concat(blocks))).rejects.toMatchObject({
    code: 'invalid-argument',
    message: expect.stringMatching(/^Cannot (unpack the checkpoint|read the archive): .{5,}/s),
  })
})

test('links that a real archive has are refused, and its source is let go', async () => {
  mkdirSync(join(folder, 'down'))
  symlinkSync('/etc', join(folder, 'away.img'))
  let isClosed = false
  const source = piecesOf(tar('away.img', 'down'), () => (isClosed = true))

  await expect(Array.fromAsync(readFlatTar(source, signal))).rejects.toThrow('"away.img" is no plain file')

  expect(isClosed).toBe(true)
})

test('a file with holes in it is packed as it is, or not taken', async () => {
  writeFileSync(join(folder, 'pages.img'), 'x')
  truncateSync(join(folder, 'pages.img'), 1_000_000)

  await expect(filesIn(tar('--sparse', 'pages.img'))).rejects.toThrow('no plain file')
  expect((await filesIn(tar('pages.img')))[0]?.[1]).toHaveLength(1_000_000)
})
