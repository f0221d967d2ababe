import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Task } from '@gantry/api/containerd/runtime/task/v3/shim_pb'
import { listen } from '@gantry/rpc/server'
import { bind, type Implementation } from '@gantry/rpc/service'
import { listenTtrpc } from '@gantry/rpc/ttrpc-server'
import { expect, test, vi } from 'vitest'
import { bundleOf } from '../bundle.ts'
import type { RuntimeTask } from '../runtime/runtime.ts'
import { createLinks } from './link.ts'
import { createShimRuntime, type ShimRuntimeParts } from './shim-runtime.ts'

const stdio = { stdin: '', stdout: '', stderr: '', terminal: false }

test.each(['ttrpc', 'grpc'])(
  'a shim that is joined by %s gets the task and gives it back, but is neither started nor ended',
  async (protocol) => {
    const folder = mkdtempSync(join(tmpdir(), 'gantry-join-'))
    const asked: string[] = []
    const answer =
      <T>(method: string, reply: T) =>
      async () => {
        asked.push(method)
        return reply
      }
    const methods = {
      create: answer('create', { pid: process.pid }),
      connect: answer('connect', { shimPid: process.pid }),
      start: answer('start', { pid: process.pid }),
      delete: answer('delete', {}),
      shutdown: answer('shutdown', {}),
    }
    const quiet = vi.fn()
    const log = { info: quiet, warn: quiet, error: quiet, debug: quiet } as unknown as ShimRuntimeParts['log']
    const address = join(folder, 'shim.sock')
    const bindings = [bind(Task, methods as unknown as Implementation<typeof Task>)]
    const shim = await (protocol === 'grpc' ? listen : listenTtrpc)({ address, bindings, log })
    const links = createLinks(log)
    const runtime = createShimRuntime({
      ...{ links, log, env: { PATH: '/nowhere' }, now: Date.now },
      ...{ grpcAddress: join(folder, 'g'), ttrpcAddress: join(folder, 't') },
    })
    const bundle = bundleOf(folder, 'test', 'box')
    mkdirSync(bundle.dir, { recursive: true })
    const choice = { binary: '', joins: { address: `unix://${address}`, version: 3, protocol }, options: null }
    const task: RuntimeTask = {
      ...{ namespace: 'test', id: 'box', bundle, cgroup: null },
      runtime: {
        ...{ binary: '', root: '', systemdCgroup: false, noPivot: false, noNewKeyring: false, ioUid: 0, ioGid: 0 },
        shim: choice,
      },
    }

    const live = await runtime.create({ task, execId: '', stdio }, [])
    await runtime.start(task)
    await runtime.delete(task)

    expect(live.process.pid).toBe(process.pid)
    expect(asked).toEqual(['create', 'connect', 'start', 'delete'])

    await shim[Symbol.asyncDispose]()
    await runtime.delete(task) // it is gone: there is nothing of ours to clean up

    expect(asked).toHaveLength(4)
    await links[Symbol.asyncDispose]()
    rmSync(folder, { recursive: true })
  },
)
