import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { mkfifo } from '@gantry/linux/file'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { bundleOf } from '../bundle.ts'
import { CGROUPS } from '../cgroup.ts'
import { startDirectly } from './shortcut.ts'

const BUSY_MS = 1100 // as long as a start was once waited for, and a little

let folder: string
let binary: string
let fifo: string

/** A container's init, as it waits for the start: it writes to the FIFO as soon as somebody reads, then runs this. */
function startInit(then: string) {
  const init = spawn('sh', ['-c', `printf 0 >"$0"; ${then}`, fifo], { stdio: 'ignore' })
  const state = { init_process_pid: init.pid, cgroup_paths: { pids: `${CGROUPS}/pids/box` }, config: {} }
  writeFileSync(join(folder, 'box', 'state.json'), JSON.stringify(state))
  return init
}

function start(): Promise<boolean> {
  const choice = { binary, root: folder, systemdCgroup: false, noPivot: false, noNewKeyring: false, ioUid: 0, ioGid: 0 }
  const bundle = bundleOf(folder, 'test', 'box')
  return startDirectly({ namespace: 'test', id: 'box', bundle, cgroup: null, runtime: { ...choice, shim: null } })
}

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'gantry-shortcut-'))
  mkdirSync(join(folder, 'box'))
  binary = join(folder, 'runc')
  writeFileSync(binary, '')
  fifo = join(folder, 'box', 'exec.fifo')
  mkfifo(fifo, 0o600)
})

afterEach(() => rmSync(folder, { recursive: true }))

test('an init that went on while nothing ran here has been started', async () => {
  const init = startInit('exec sleep 60')
  try {
    const started = start()
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, BUSY_MS)

    expect(await started).toBe(true)
  } finally {
    init.kill('SIGKILL')
  }
})

test('an init that is gone before the start has not been started', async () => {
  const init = startInit('')
  const ended = once(init, 'exit')
  init.kill('SIGKILL')
  await ended

  expect(await start()).toBe(false)
})
