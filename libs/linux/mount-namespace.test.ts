import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { mount, parseMountPoints, unmountAll } from './mount.ts'
import { openMountsCovering } from './mount-namespace.ts'

test('a folder is covered for who enters, and for nobody else', () => {
  using folder = mountedFolder()
  writeFileSync(join(folder.path, 'file'), '')

  using namespace = openMountsCovering(folder.path)
  const ls = (path: string) => execFileSync('nsenter', [`--mount=${namespace.path}`, '--', 'ls', path], ENV).toString()

  expect(ls(folder.path)).toBe('')
  expect(ls('/proc/self/ns')).toContain('mnt')
  expect(readdirSync(folder.path)).toEqual(['file'])
  expect(mountsOn(folder.path)).toBe(1)
})

test('the thread is where it was, also when it failed', () => {
  using folder = mountedFolder()
  const at = () => ['ns/mnt', 'root', 'cwd'].map((what) => readlinkSync(`/proc/thread-self/${what}`))
  const before = at()

  expect(() => openMountsCovering('/proc/1')).toThrow('EINVAL')
  expect(at()).toEqual(before)

  using _namespace = openMountsCovering(folder.path)
  expect(at()).toEqual(before)
})

test('what is mounted in the covered folder of others spreads no further', () => {
  using folder = mountedFolder()
  mount({ type: '', source: '', target: folder.path, options: ['rshared'] })

  using _namespace = openMountsCovering(folder.path)

  expect(mountsOn(folder.path)).toBe(1)
})

const ENV = { env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' } }

function mountsOn(path: string): number {
  return parseMountPoints(readFileSync('/proc/self/mountinfo', 'utf8')).filter((point) => point === path).length
}

function mountedFolder() {
  const path = mkdtempSync(join(tmpdir(), 'gantry-covered-'))
  mount({ type: 'tmpfs', source: 'none', target: path, options: [] })
  return {
    path,
    [Symbol.dispose]() {
      unmountAll(path, { detach: true })
      rmSync(path, { recursive: true })
    },
  }
}
