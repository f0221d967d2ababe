import {
  closeSync,
  constants,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openIn } from './open-in.ts'

let root: string

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'gantry-open-in-'))
  mkdirSync(join(root, 'etc'))
  writeFileSync(join(root, 'etc', 'passwd'), 'inside')
})
afterEach(() => rmSync(root, { recursive: true }))

test.each(['etc/passwd', '/etc/passwd', '../../../etc/passwd', 'absolute', 'up'])(
  '%s leads to the file inside',
  (path) => {
    symlinkSync('/etc/passwd', join(root, 'absolute'))
    symlinkSync('../../../../../../etc/passwd', join(root, 'up'))

    const fd = openIn(root, path, constants.O_RDONLY)

    expect(readFileSync(fd, 'utf8')).toBe('inside')
    closeSync(fd)
  },
)

test('a magic link of /proc leads nowhere', () => {
  const proc = openIn('/proc', 'self', constants.O_RDONLY | constants.O_DIRECTORY)

  expect(() => openIn(proc, 'root', constants.O_RDONLY)).toThrow('ELOOP')
  expect(readlinkSync('/proc/self/root')).toBe('/')
  closeSync(proc)
})

test('a file is made with the mode asked for', () => {
  const fd = openIn(root, 'new', constants.O_CREAT | constants.O_WRONLY, 0o600)
  closeSync(fd)

  expect(() => openIn(root, 'etc/passwd/x', constants.O_RDONLY)).toThrow('ENOTDIR')
  expect(() => openIn(root, 'absent', constants.O_RDONLY)).toThrow('ENOENT')
})
