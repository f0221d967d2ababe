import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmdirSync, rmSync, utimesSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { startDaemon } from './daemon.ts'
import { cgroups, fifos, mounts, processes, traces } from './leaks.ts'

let dir = ''
const namespace = `leaks${process.pid}`
const scope = () => ({ dir, namespaces: [namespace] })

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'gl-'))
})
afterEach(() => {
  rmSync(dir, { recursive: true })
})

test('a clean host has no traces', () => {
  expect([...mounts(scope()), ...processes(scope()), ...cgroups(scope())]).toEqual([])
})

test('a mount is found', () => {
  mkdirSync(join(dir, 'point'))
  execFileSync('mount', ['-t', 'tmpfs', 'none', join(dir, 'point')])

  expect(traces(scope())).toContain(`mount ${join(dir, 'point')}`)

  execFileSync('umount', [join(dir, 'point')])
})

test('a process is found by its arguments', async () => {
  await using daemon = startDaemon(['tail', '-f', '/dev/null', join(dir, 'x')])

  expect(processes(scope())).toEqual([expect.stringContaining(`process ${daemon.pid} `)])
  expect(processes({ ...scope(), daemons: () => [daemon.pid] })).toEqual([])
})

test('a FIFO is found, but not one that belongs to an image', () => {
  mkdirSync(join(dir, 'snapshot', 'fs'), { recursive: true })
  execFileSync('mkfifo', [join(dir, 'stdout'), join(dir, 'snapshot', 'fs', 'content')])

  expect(fifos(scope()).filter((line) => line.includes(dir))).toEqual([`fifo ${join(dir, 'stdout')}`])
})

test('a FIFO that ctr made is found by its container, but not one from before', () => {
  const folder = join('/run/containerd/fifo', `1${process.pid}`)
  const mine = () => fifos({ ...scope(), ids: new Set([namespace]) })
  mkdirSync(folder, { recursive: true })
  try {
    execFileSync('mkfifo', [join(folder, `${namespace}-stdin`)])
    expect(mine()).toEqual([`fifo ${join(folder, `${namespace}-stdin`)}`])
    utimesSync(join(folder, `${namespace}-stdin`), 1, 1)
    expect(mine()).toEqual([])
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('the cgroup of a container is found, the folder of its namespace is not counted', () => {
  const parent = join(existsSync('/sys/fs/cgroup/pids') ? '/sys/fs/cgroup/pids' : '/sys/fs/cgroup', namespace)
  mkdirSync(parent)
  expect(cgroups(scope())).toEqual([])
  mkdirSync(join(parent, 'box'))

  expect(cgroups(scope())).toEqual([`cgroup ${join(parent, 'box')}`])

  rmdirSync(join(parent, 'box'))
  rmdirSync(parent)
})
