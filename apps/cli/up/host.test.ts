import { mkdtempSync, readdirSync, rmdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { lacksOf, unwritable } from './host.ts'

const complete = {
  uid: 0,
  has: () => true,
  filesystems: 'nodev\tsysfs\nnodev\toverlay\n\text4\n',
  mounts: 'cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n',
}

test('a complete host lacks nothing', () => {
  expect(lacksOf(complete, { nats: true })).toEqual([])
})

test('all that is missing is told at once, each with a remedy', () => {
  const bare = { uid: 1000, has: () => false, filesystems: 'nodev\tsysfs\n', mounts: 'proc /proc proc rw 0 0\n' }

  expect(lacksOf(bare, { nats: true }).map(({ remedy }) => remedy)).toEqual([
    'start it with sudo',
    'apt-get install runc',
    'apt-get install conmon',
    'apt-get install nats-server, or set url in [nats]',
    'modprobe overlay',
    'mount -t cgroup2 none /sys/fs/cgroup',
  ])
})

test('one of the two OCI runtimes is enough, and a configured bus needs no server here', () => {
  const host = { ...complete, has: (program: string) => program === 'crun' || program === 'conmon' }

  expect(lacksOf(host, { nats: false })).toEqual([])
})

test('a folder is tried by writing into it', () => {
  const dir = mkdtempSync(join(tmpdir(), 'gantry-host-'))

  expect(unwritable(dir)).toBeUndefined()
  expect(readdirSync(dir)).toEqual([])
  expect(unwritable(join(dir, 'none'))).toContain('ENOENT')
  rmdirSync(dir)
})
