/**
 * The shim of a sandbox, as small as one can be: it keeps the sandbox by living, and a container is a `sleep` beside it. It speaks
 * version 3, by ttrpc or gRPC, and makes the file `ready` in its working folder when it does.
 *
 *   node pod-shim.ts <protocol> <socket>
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import { Sandbox } from '@gantry/api/containerd/runtime/sandbox/v1/sandbox_pb'
import { Task } from '@gantry/api/containerd/runtime/task/v3/shim_pb'
import { bind, type Implementation } from '@gantry/rpc/service'

const [protocol = '', socket = ''] = process.argv.slice(2)
const { listen } =
  protocol === 'grpc'
    ? await import('@gantry/rpc/server')
    : { listen: (await import('@gantry/rpc/ttrpc-server')).listenTtrpc }
await listen({ address: socket, bindings: [bind(Sandbox, sandbox()), bind(Task, tasks())], log: console })
writeFileSync('ready', '')

function sandbox(): Implementation<typeof Sandbox> {
  const stopped = Promise.withResolvers<void>()
  const methods: Partial<Implementation<typeof Sandbox>> = {
    createSandbox: async () => ({}),
    startSandbox: async () => ({ pid: process.pid }),
    sandboxStatus: async ({ sandboxId }) => ({ sandboxId, pid: process.pid, state: 'SANDBOX_READY' }),
    async stopSandbox() {
      stopped.resolve()
      return {}
    },
    async waitSandbox() {
      await stopped.promise
      return { exitStatus: 3 }
    },
    async shutdownSandbox() {
      setTimeout(() => process.exit(), 50) // after the answer
      return {}
    },
  }
  return methods as Implementation<typeof Sandbox>
}

function tasks(): Implementation<typeof Task> {
  const containers = new Map<string, { child: ChildProcess; exit: Promise<{ exitStatus: number }> }>()
  const find = (id: string) => {
    const found = containers.get(id)
    if (!found) throw new Error(`no container ${id}`)
    return found
  }
  const methods: Partial<Implementation<typeof Task>> = {
    async create({ id }) {
      const child = spawn('sleep', ['1000'], { stdio: 'ignore' })
      const exit = once(child, 'exit').then(([code, signal]) => ({
        exitStatus: code ?? 128 + constants.signals[signal as NodeJS.Signals],
      }))
      containers.set(id, { child, exit })
      return { pid: child.pid ?? 0 }
    },
    connect: async ({ id }) => ({ shimPid: process.pid, taskPid: containers.get(id)?.child.pid ?? 0 }),
    start: async ({ id }) => ({ pid: find(id).child.pid ?? 0 }),
    async kill({ id, signal }) {
      find(id).child.kill(signal)
      return {}
    },
    wait: ({ id }) => find(id).exit,
    async delete({ id }) {
      const exit = await find(id).exit
      containers.delete(id)
      return exit
    },
  }
  return methods as Implementation<typeof Task>
}
