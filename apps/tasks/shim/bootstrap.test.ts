import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create, toBinary } from '@bufbuild/protobuf'
import { BootstrapResultSchema } from '@gantry/api/containerd/runtime/bootstrap/v1/bootstrap_pb'
import { expect, test, vi } from 'vitest'
import { bundleOf } from '../bundle.ts'
import type { RuntimeTask } from '../runtime/runtime.ts'
import { parseBootstrap, socketPathOf, startShim } from './bootstrap.ts'

const ADDRESS = 'unix:///run/s/1'
const message = toBinary(BootstrapResultSchema, create(BootstrapResultSchema, { version: 3, address: ADDRESS }))

test.each([
  ['an address', Buffer.from(`${ADDRESS}\n`), 2],
  ['JSON', Buffer.from(JSON.stringify({ version: 3, address: ADDRESS, protocol: 'ttrpc' })), 3],
  ['a message', Buffer.from(message), 3],
])('a shim may answer with %s', (_, output, version) => {
  expect(parseBootstrap(output)).toEqual({ version, address: ADDRESS, protocol: 'ttrpc' })
})

test.each([[''], ['\u0001\u0002rubbish']])('%j is no answer', (output) => {
  expect(() => parseBootstrap(Buffer.from(output))).toThrow('something else than an address')
})

test('an address is a socket in the file system or an abstract one', () => {
  expect(socketPathOf(ADDRESS)).toBe('/run/s/1')
  expect(socketPathOf('/run/s/1')).toBe('/run/s/1')
  expect(socketPathOf('shim')).toBe('\0shim')
  expect(() => socketPathOf('vsock://2:10')).toThrow('Cannot reach')
})

test('a shim whose start has ended is not killed when the time for it is up', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'gantry-bootstrap-'))
  const bundle = bundleOf(folder, 'test', 'box')
  mkdirSync(bundle.dir, { recursive: true })
  const binary = join(folder, 'shim')
  // what goes on holds its output open, as a shim does that keeps its standard error
  writeFileSync(binary, `#!/bin/sh\nsleep 2 &\necho ${ADDRESS}\necho $$ >${folder}/pid\n`, { mode: 0o755 })
  const kill = vi.spyOn(process, 'kill').mockReturnValue(true)
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  try {
    const parts = { env: { PATH: '/usr/bin:/bin' }, grpcAddress: '/g', ttrpcAddress: '/t' }
    const started = startShim(parts, { namespace: 'test', id: 'box', bundle } as RuntimeTask, binary)
    const pid = () => (existsSync(join(folder, 'pid')) ? readFileSync(join(folder, 'pid'), 'utf8').trim() : '')
    while (pid() === '' || existsSync(`/proc/${pid()}`)) await new Promise(setImmediate)

    vi.advanceTimersByTime(10_000)

    expect(await started).toMatchObject({ address: ADDRESS })
    expect(kill).not.toHaveBeenCalled()
  } finally {
    vi.useRealTimers()
    kill.mockRestore()
    rmSync(folder, { recursive: true })
  }
})
