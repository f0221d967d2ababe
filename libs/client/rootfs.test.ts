import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { mkfifo, mknod } from '@gantry/linux/file'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { foldersOf, readFromSnapshot } from './rootfs.ts'

let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'gantry-rootfs-'))
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

function layer(name: string, files: Record<string, string> = {}): string {
  const dir = join(root, name)
  mkdirSync(join(dir, 'etc'), { recursive: true })
  for (const [path, text] of Object.entries(files)) writeFileSync(join(dir, path), text)
  return dir
}

function overlay(...dirs: string[]) {
  const [upper = '', ...lower] = dirs
  return [
    { type: 'overlay', source: 'overlay', options: ['index=off', `upperdir=${upper}`, `lowerdir=${lower.join(':')}`] },
  ]
}

test('the topmost file counts', () => {
  const mounts = overlay(layer('up'), layer('mid', { 'etc/passwd': 'mid' }), layer('low', { 'etc/passwd': 'low' }))

  expect(readFromSnapshot(mounts, 'etc/passwd')).toBe('mid')
})

test('a file that no layer has is empty', () => {
  expect(readFromSnapshot([{ type: 'bind', source: layer('only'), options: ['rbind'] }], 'etc/passwd')).toBe('')
})

test('a deleted file is gone, whatever is below', () => {
  const up = layer('up')
  mknod(join(up, 'etc/passwd'), 0, 0, 0)

  expect(readFromSnapshot(overlay(up, layer('low', { 'etc/passwd': 'low' })), 'etc/passwd')).toBe('')
})

test('a link stays inside its layer, whatever it names (CVE-2024-9676)', () => {
  const up = layer('up')
  symlinkSync('../../../../../../etc/passwd', join(up, 'etc/passwd'))
  const other = layer('other', { 'etc/real': 'inside' })
  symlinkSync('/etc/real', join(other, 'etc/passwd'))

  expect(() => readFromSnapshot(overlay(up, layer('low')), 'etc/passwd')).toThrow('lead nowhere')
  expect(readFromSnapshot(overlay(other, layer('low')), 'etc/passwd')).toBe('inside')
})

test.each<[string, (path: string) => void]>([
  ['a FIFO', (path) => mkfifo(path, 0o644)],
  ['a folder', (path) => mkdirSync(path)],
])('%s in its place is refused without being opened (CVE-2025-4437)', (_, make) => {
  const up = layer('up')
  make(join(up, 'etc/passwd'))

  expect(() => readFromSnapshot(overlay(up, layer('low')), 'etc/passwd')).toThrow('not a regular file')
})

test('a huge file is refused (CVE-2026-47262)', () => {
  const up = layer('up', { 'etc/passwd': '' })
  truncateSync(join(up, 'etc/passwd'), 1 << 30)

  expect(() => readFromSnapshot(overlay(up, layer('low')), 'etc/passwd')).toThrow('more than')
})

test('mounts without folders are refused', () => {
  expect(() => foldersOf([{ type: 'erofs', source: '/x', options: [] }])).toThrow('have no folders')
  expect(() => foldersOf([])).toThrow('have no folders')
})
