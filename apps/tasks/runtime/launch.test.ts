import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { processesIn } from '@gantry/linux/process'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { bundleOf } from '../bundle.ts'
import { createHost } from './choose.ts'
import { createExits } from './exits.ts'
import { startLogger } from './logger.ts'
import { createOciRuntime } from './oci.ts'
import type { RuntimeTask } from './runtime.ts'

const PATH = '/usr/bin:/bin'
const QUIET = { stdin: '', stdout: '', stderr: '', terminal: false }
const conmon = createHost(PATH).find('conmon') ?? ''
let folder: string

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'gantry-launch-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

test.skipIf(conmon === '')(
  'a runtime that never makes its container is ended, and so is what waits for it',
  async () => {
    const binary = join(folder, 'runtime')
    const script = `#!/bin/sh\ncase " $* " in *" create "*) touch ${folder}/asked; exec sleep 1000;; esac\n`
    writeFileSync(binary, script, { mode: 0o755 })
    const bundle = bundleOf(folder, 'test', 'box')
    mkdirSync(bundle.processDir(''), { recursive: true })
    const choice = { binary, root: join(folder, 'state'), systemdCgroup: false, noPivot: false, noNewKeyring: false }
    const task: RuntimeTask = {
      ...{ namespace: 'test', id: 'box', bundle, cgroup: null },
      runtime: { ...choice, ioUid: 0, ioGid: 0, shim: null },
    }
    using exits = createExits(Date.now)
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    try {
      const runtime = createOciRuntime({ state: folder, env: { PATH }, exits, conmon: () => conmon })
      const made = runtime.create({ task, execId: '', stdio: QUIET }, [])
      made.catch(() => undefined)
      while (!existsSync(join(folder, 'asked'))) await new Promise(setImmediate)

      vi.advanceTimersByTime(300_000)

      await expect(made).rejects.toThrow('OCI runtime create failed')
      expect(processesIn(bundle.processDir(''))).toEqual([])
    } finally {
      vi.useRealTimers()
    }
  },
)

test('a logger that cannot be given its arguments leaves no descriptors', async () => {
  const descriptors = () => readdirSync('/proc/self/fd').length
  const logger = { path: '/bin/true', args: ['x'.repeat(200_000)], speaks: false }
  const start = () => startLogger(logger, { id: 'box', namespace: 'test', folder })
  await expect(start()).rejects.toThrow('failed to start the logger "/bin/true": argument list too long: unknown')
  const before = descriptors()

  for (let times = 0; times < 20; times++) await expect(start()).rejects.toMatchObject({ code: 'unknown' })

  expect(descriptors()).toBeLessThan(before + 10)
})
