import { closeSync, constants, lstatSync, mkdtempSync, openSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  deviceNumber,
  isCharDevice00,
  lgetxattr,
  llistxattr,
  lsetxattr,
  lutimesNs,
  mkfifo,
  mknod,
  startWriting,
  syncfs,
} from './file.ts'

let root: string

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'gantry-file-'))
})
afterEach(() => rmSync(root, { recursive: true }))

test('a file can be on its way to the disk; a pipe cannot', () => {
  const [file, pipe] = [join(root, 'file'), join(root, 'pipe')]
  writeFileSync(file, 'abc')
  mkfifo(pipe, 0o600)
  const fds = [openSync(file, 'r+'), openSync(pipe, constants.O_RDWR)] as const

  startWriting(fds[0], 0, 3)

  expect(() => startWriting(fds[1], 0, 3)).toThrow(expect.objectContaining({ code: 'ESPIPE' }))
  for (const fd of fds) closeSync(fd)
})

test('a FIFO is one', () => {
  mkfifo(join(root, 'pipe'), 0o600)

  expect(lstatSync(join(root, 'pipe')).isFIFO()).toBe(true)
  expect(() => mkfifo(join(root, 'pipe'), 0o600)).toThrow(expect.objectContaining({ code: 'EEXIST', syscall: 'mknod' }))
})

test('times keep their nanoseconds, before 1970 too, and a link keeps its own', () => {
  const path = join(root, 'link')
  symlinkSync('nowhere', path)

  lutimesNs(path, -1n, 1_700_000_000_123_456_789n)

  const stat = lstatSync(path, { bigint: true })
  expect([stat.atimeNs, stat.mtimeNs]).toEqual([-1n, 1_700_000_000_123_456_789n])
})

test('device numbers split as the kernel does', () => {
  expect(deviceNumber(5, 1)).toBe(0x501n)
  expect(deviceNumber(0x1234, 0x56789)).toBe(0x0000_1000_5672_3489n)
})

test('syncing a file system takes a descriptor of it', () => {
  const fd = openSync(root, 'r')

  syncfs(fd)

  closeSync(fd)
  expect(() => syncfs(fd)).toThrow('EBADF')
})

describe.skipIf(process.getuid?.() !== 0)('as root (skipped without: devices and trusted.* need it)', () => {
  test('a device node has its numbers, and 0:0 is the mark of overlay', () => {
    mknod(join(root, 'null'), 0o666, 1, 3)
    mknod(join(root, 'gone'), 0, 0, 0)

    expect(lstatSync(join(root, 'null')).rdev).toBe(0x103)
    expect(isCharDevice00(lstatSync(join(root, 'null')))).toBe(false)
    expect(isCharDevice00(lstatSync(join(root, 'gone')))).toBe(true)
  })

  test('extended attributes are bytes, large ones too, by path and by descriptor', () => {
    const path = join(root, 'file')
    writeFileSync(path, '')
    const value = new Uint8Array(600).fill(0x80)

    lsetxattr(path, 'trusted.bytes', value)
    const fd = openSync(path, 'r')

    expect(llistxattr(path)).toContain('trusted.bytes')
    expect(lgetxattr(path, 'trusted.bytes')).toEqual(value)
    expect(llistxattr(fd)).toContain('trusted.bytes')
    expect(lgetxattr(fd, 'trusted.bytes')).toEqual(value)
    expect(lgetxattr(path, 'trusted.absent')).toBeUndefined()
    closeSync(fd)
  })
})
