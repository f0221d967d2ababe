import {
  chmodSync,
  closeSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { lutimesNs, mkfifo, mknod } from '@gantry/linux/file'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type CopyEntry, idInContainer, idOnHost, SAME_IDS } from './copy-entry.ts'
import { readTree } from './copy-source.ts'
import { overwrite, type TargetTree, writeTree } from './copy-target.ts'
import { packEntries, unpackEntries } from './tar.ts'

const signal = AbortSignal.timeout(20_000)
const isRoot = process.getuid?.() === 0
const SECONDS = 1_700_000_000_000_000_000n // a tar has no less
const O_PATH = 0o10000000

let dir: string
let skipped: string[]
let opened: number[]
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'gantry-copy-'))
  for (const folder of ['from', 'to', 'outside']) mkdirSync(join(dir, folder))
  skipped = []
  opened = []
})
afterEach(() => {
  for (const fd of opened) closeSync(fd)
  rmSync(dir, { recursive: true })
})

function open(folder: string): number {
  const fd = openSync(join(dir, folder), O_PATH)
  opened.push(fd)
  return fd
}

function into(more: Partial<TargetTree> = {}): TargetTree {
  const { uid, gid } = statSync(dir)
  const onSkip = (path: string, why: string) => void skipped.push(`${path}: ${why}`)
  return { root: open('to'), base: '.', owner: () => ({ uid, gid }), setIds: false, special: true, onSkip, ...more }
}

function from(name = '') {
  return readTree({ fd: open('from'), name, ids: SAME_IDS }, signal)
}

function entry(path: string, more: Partial<CopyEntry> = {}): CopyEntry {
  const text = more.kind === undefined || more.kind === 'file' ? 'hostile' : ''
  async function* body() {
    yield Buffer.from(text)
  }
  const numbers = { mode: 0o644, uid: 0, gid: 0, size: text.length, mtime: 0n, major: 0, minor: 0 }
  return { kind: 'file', path, link: '', ...numbers, body: body(), ...more }
}

async function* these(...steps: (CopyEntry | (() => void))[]): AsyncGenerator<CopyEntry> {
  for (const step of steps)
    if (typeof step === 'function') step()
    else yield step
}

/** Names, kinds, modes, contents and times of a tree. */
function listing(folder: string): unknown[] {
  return readdirSync(join(dir, folder), { recursive: true, encoding: 'utf8' })
    .sort()
    .map((name) => {
      const path = join(dir, folder, name)
      const { mode, mtimeMs, nlink } = lstatSync(path)
      const kind = mode & 0o170000
      const content = kind === 0o120000 ? readlinkSync(path) : kind === 0o100000 ? readFileSync(path, 'hex') : ''
      return [name, mode.toString(8), Math.floor(mtimeMs), kind === 0o040000 ? 0 : nlink, content]
    })
}

function makeTree(): void {
  const at = (name: string) => join(dir, 'from', name)
  mkdirSync(at('folder/deep'), { recursive: true })
  writeFileSync(at('folder/deep/file'), 'content')
  writeFileSync(at('folder/sparse'), Buffer.concat([Buffer.alloc(700_000), Buffer.from('end')]))
  writeFileSync(at('empty'), '')
  writeFileSync(at('ünï code'), 'x')
  linkSync(at('folder/deep/file'), at('other'))
  symlinkSync('/etc/passwd', at('link'))
  symlinkSync('nowhere', at('folder/dangling'))
  mkfifo(at('fifo'), 0o620)
  chmodSync(at('fifo'), 0o620)
  chmodSync(at('folder/deep'), 0o500)
  for (const name of readdirSync(at(''), { recursive: true, encoding: 'utf8' })) lutimesNs(at(name), SECONDS, SECONDS)
}

test('a tree becomes the same tree, directly and through a tar', async () => {
  makeTree()
  const before = listing('from')

  const copied = await writeTree(into(), from(), signal)
  expect(listing('to')).toEqual(before)
  expect(copied).toEqual({ entries: before.length, bytes: 700_011n })
  chmodSync(join(dir, 'to/folder/deep'), 0o700)
  rmSync(join(dir, 'to'), { recursive: true })
  mkdirSync(join(dir, 'to'))

  await writeTree(into(), unpackEntries(packEntries(from(), signal), signal), signal)
  expect(listing('to')).toEqual(before)
  for (const side of ['from', 'to']) chmodSync(join(dir, side, 'folder/deep'), 0o700)
})

test('what is there is replaced, folders are merged and stay as they are', async () => {
  const at = (name: string) => join(dir, name)
  for (const side of ['from', 'to']) mkdirSync(at(`${side}/folder`))
  writeFileSync(at('from/folder/new'), 'new')
  writeFileSync(at('to/folder/old'), 'old')
  chmodSync(at('to/folder'), 0o711)
  symlinkSync(at('outside/target'), at('to/folder/new'))

  await writeTree(into(), from(), signal)
  await writeTree(into(), from(), signal)

  expect(readdirSync(at('to/folder')).sort()).toEqual(['new', 'old'])
  expect(lstatSync(at('to/folder/new')).isFile()).toBe(true)
  expect(statSync(at('to/folder')).mode & 0o777).toBe(0o711)
  expect(readdirSync(at('outside'))).toEqual([])
})

test.each([
  ['a folder over a file', entry('there', { kind: 'folder' }), 'something that is no folder'],
  ['a file over a folder', entry('folder'), 'a folder'],
  ['a link over a folder', entry('folder', { kind: 'symlink', link: '/' }), 'a folder'],
  ['a folder over a link to one', entry('link', { kind: 'folder' }), 'something that is no folder'],
  ['a path that goes up', entry('a/../../outside/x'), 'it leads elsewhere'],
])('%s is refused', async (_, hostile, words) => {
  writeFileSync(join(dir, 'to/there'), '')
  mkdirSync(join(dir, 'to/folder'))
  symlinkSync(join(dir, 'outside'), join(dir, 'to/link'))

  await expect(writeTree(into(), these(hostile), signal)).rejects.toThrow(words)
  expect(readdirSync(join(dir, 'outside'))).toEqual([])
})

test('links that lead out stay inside when they are written through (CVE-2019-14271, CVE-2018-15664)', async () => {
  const outside = join(dir, 'outside')
  const escaping = (link: string) => [entry('a', { kind: 'symlink', link }), entry('a/x'), entry('/b//./c')]

  await writeTree(into(), these(...escaping('/')), signal)
  await writeTree(into(), these(...escaping('../..')), signal)
  await expect(writeTree(into(), these(...escaping(outside)), signal)).rejects.toThrow()
  writeFileSync(join(outside, 'secret'), 'secret')
  const hard = [entry('s', { kind: 'symlink', link: outside }), entry('h', { kind: 'hard-link', link: 's/secret' })]
  await expect(writeTree(into(), these(...hard), signal)).rejects.toThrow()

  expect(readFileSync(join(dir, 'to/x'), 'utf8')).toBe('hostile')
  expect(existsSync(join(dir, 'to/b/c'))).toBe(true)
  expect(readdirSync(outside)).toEqual(['secret'])
  expect(statSync(join(outside, 'secret')).nlink).toBe(1)
})

test('a folder that becomes a link meanwhile leads nowhere, when it is written and when it is read (CVE-2018-15664)', async () => {
  const swap = (side: string) => () => {
    renameSync(join(dir, side, 'folder'), join(dir, side, 'moved'))
    symlinkSync(join(dir, 'outside'), join(dir, side, 'folder'))
  }
  const steps = [entry('folder', { kind: 'folder' }), entry('folder/one'), swap('to'), entry('folder/two')]
  await expect(writeTree(into(), these(...steps), signal)).rejects.toThrow()
  const { uid, gid } = statSync(dir)
  const owner = () => {
    swap('late')()
    return { uid, gid }
  }
  mkdirSync(join(dir, 'late/folder'), { recursive: true })
  await writeTree(into({ root: open('late'), owner }), these(entry('folder/three')), signal)
  expect(readdirSync(join(dir, 'late/moved'))).toEqual(['three'])
  expect(readdirSync(join(dir, 'outside'))).toEqual([])

  writeFileSync(join(dir, 'outside/secret'), 'secret')
  mkdirSync(join(dir, 'from/folder/inner'), { recursive: true })
  writeFileSync(join(dir, 'from/folder/inner/file'), 'own')
  const seen: string[] = []
  for await (const { path, body } of from()) {
    if (path === 'folder') swap('from')()
    for await (const chunk of body) seen.push(`${path}: ${chunk}`)
  }
  expect(seen).toEqual(['folder/inner/file: own'])
})

test('a file of the kernel is not written over', async () => {
  const file = '/proc/self/oom_score_adj'
  const before = readFileSync(file, 'utf8')
  async function* body() {
    yield Buffer.from('999')
  }
  opened.push(openSync(file, O_PATH))

  await expect(overwrite(opened[0] ?? -1, entry('x', { body: body() }), signal)).rejects.toThrow('no file')

  expect(readFileSync(file, 'utf8')).toBe(before)
})

test('a file that grows or shrinks meanwhile has as many bytes as it had', async () => {
  const file = join(dir, 'from/file')
  for (const text of ['longer than before', '']) {
    writeFileSync(file, 'before')
    for await (const { path, body } of from()) {
      if (path === 'file') writeFileSync(file, text)
      expect(Buffer.concat(await Array.fromAsync(body)).length).toBe(6)
    }
  }
})

test.each(['a file', 'a folder'])('who copies %s without end may give up', async (what) => {
  if (what === 'a file') {
    writeFileSync(join(dir, 'from/file'), '')
    truncateSync(join(dir, 'from/file'), 2 ** 28)
  } else for (let at = 0; at < 50; at++) symlinkSync('nowhere', join(dir, 'from', `${at}`))
  const stop = new AbortController()
  const abortIn = (turns: number): unknown => (turns === 0 ? stop.abort() : setImmediate(() => abortIn(turns - 1)))
  abortIn(5) // in the midst of it

  const reading = readTree({ fd: open('from'), name: '', ids: SAME_IDS }, stop.signal)
  const copying = writeTree(into(), reading, stop.signal)

  await expect(copying).rejects.toThrow(expect.objectContaining({ name: 'AbortError' }))
})

test('a host keeps its FIFOs, devices and sockets', async () => {
  mkfifo(join(dir, 'to/null'), 0o600)
  mkfifo(join(dir, 'to/other'), 0o600)

  for (const hostile of [entry('null'), entry('null', { kind: 'symlink', link: 'x' })])
    await expect(writeTree(into({ special: false }), these(hostile), signal)).rejects.toThrow('no file')
  await writeTree(into(), these(entry('other')), signal)
  expect(lstatSync(join(dir, 'to/null')).isFIFO()).toBe(true)
  expect(readFileSync(join(dir, 'to/other'), 'utf8')).toBe('hostile')
})

test('folders in folders without end are refused', async () => {
  mkdirSync(join(dir, 'from', ...Array.from({ length: 260 }, () => 'd')), { recursive: true })

  await expect(Array.fromAsync(from())).rejects.toThrow('more than 256 folders')
})

test.skipIf(!isRoot)(
  'a host gets no devices, and set-user-ID bits only when it wants (skipped without root)',
  async () => {
    const at = (name: string) => join(dir, 'from', name)
    mknod(at('null'), 0o020666, 1, 3)
    mkfifo(at('fifo'), 0o600)
    linkSync(at('null'), at('zero'))
    writeFileSync(at('su'), '')
    chmodSync(at('su'), 0o6755)

    await writeTree(into({ special: false, owner: () => ({ uid: 7, gid: 8 }) }), from('x'), signal)
    expect(skipped).toEqual(
      ['fifo: it is a FIFO', 'null: it is a device', 'zero: it is a device'].map((text) => `x/${text}`),
    )
    expect(statSync(join(dir, 'to/x/su'))).toMatchObject({ mode: 0o100755, uid: 7, gid: 8 })
    expect(statSync(join(dir, 'to/x'))).toMatchObject({ uid: 7, gid: 8 })

    await writeTree(into({ setIds: true }), from('y'), signal)
    expect(statSync(join(dir, 'to/y/su')).mode).toBe(0o106755)
    expect(statSync(join(dir, 'to/y/null')).rdev).toBe(0x103)
  },
)

test('ids are those of the other side, those without one nobody', () => {
  const ranges = [{ container: 0, host: 100_000, size: 10 }]

  expect([idOnHost(ranges, 3), idOnHost(ranges, 10), idOnHost([], 3)]).toEqual([100_003, 65_534, 3])
  expect([idInContainer(ranges, 100_003), idInContainer(ranges, 3), idInContainer([], 3)]).toEqual([3, 65_534, 3])
})

test('what is no tar is refused, one that is cut short too', async () => {
  const read = (bytes: Uint8Array) => writeTree(into(), unpackEntries(inOne(bytes), signal), signal)
  makeTree()
  const whole = Buffer.concat(await Array.fromAsync(packEntries(from(), signal)))

  await expect(read(Buffer.alloc(2000, 'x'))).rejects.toThrow('Cannot read the archive')
  await expect(read(whole.subarray(0, 5000))).rejects.toThrow('Cannot read the archive')
  chmodSync(join(dir, 'from/folder/deep'), 0o700)
  expect(
    readdirSync(join(dir, 'to'), { recursive: true }).filter((name) => String(name).includes('.gantry-cp-')),
  ).toEqual([])
})

test.each(['to its end', 'not to its end'])('an archive is packed no faster than it is read, %s', async (how) => {
  let packed = 0
  async function* many() {
    for (; packed < 1000; packed++) yield entry(`${packed}`, { kind: packed < 900 ? 'folder' : 'file' })
  }
  const chunks = packEntries(many(), signal)

  await chunks.next()
  await new Promise(setImmediate) // it packs what it may

  expect(packed).toBeLessThan(300)
  if (how === 'to its end') for await (const _ of chunks);
  else await chunks.return(undefined)
  expect(packed === 1000).toBe(how === 'to its end')
})

test('who waits for an archive that does not come may give up', async () => {
  const stop = new AbortController()
  async function* never(): AsyncGenerator<Uint8Array> {
    yield new Uint8Array(512)
    await new Promise(() => undefined)
  }

  const reading = writeTree(into(), unpackEntries(never(), stop.signal), signal)
  stop.abort()

  await expect(reading).rejects.toThrow(expect.objectContaining({ name: 'AbortError' }))
})

async function* inOne(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes
}
