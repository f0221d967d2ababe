import { Sandbox } from '@gantry/api/containerd/runtime/sandbox/v1/sandbox_pb'
import { Task } from '@gantry/api/containerd/runtime/task/v3/shim_pb'
import { Fault } from '@gantry/model/fault'
import { type Client, clientOf, connect, untilLost } from '@gantry/rpc/client'
import { connectTtrpc, ttrpcClient } from '@gantry/rpc/ttrpc-client'
import type { Process as Service } from '@gantry/service/process'
import type { RuntimeTask } from '../runtime/runtime.ts'
import { type Bootstrap, readBootstrap, socketPathOf } from './bootstrap.ts'
import { followLog } from './log.ts'

const CONNECT_MS = 5000 // as in containerd

/** The connection to one task's shim. */
export interface Link extends AsyncDisposable {
  readonly client: Client<typeof Task>
  readonly sandbox: Client<typeof Sandbox>
  /** Resolves when the connection is lost or disposed; every call that waits has failed then. */
  readonly closed: Promise<void>
}

/** Connections to shims, one a task, made when they are needed and made again when they are lost. */
export interface Links {
  /** @throws {Fault} `not-found` when there is no shim, `unavailable` when it cannot be reached */
  of(task: RuntimeTask): Promise<Link>
  /** Reads the shim's log from now on, before the shim starts. */
  follow(task: RuntimeTask): void
  close(task: RuntimeTask): Promise<void>
}

export function createLinks(log: Service['log']): Links & AsyncDisposable {
  const links = new Map<string, Promise<Link>>()
  const logs = new Map<string, Disposable>()
  const follow = (task: RuntimeTask): void => {
    const key = task.bundle.dir
    if (!logs.has(key)) logs.set(key, followLog(task, log))
  }
  const forget = async (key: string): Promise<void> => {
    const link = links.get(key)
    links.delete(key)
    logs.get(key)?.[Symbol.dispose]()
    logs.delete(key)
    await (await link?.catch(() => undefined))?.[Symbol.asyncDispose]()
  }
  return {
    follow,
    async of(task) {
      const key = task.bundle.dir
      const known = links.get(key)
      if (known !== undefined) return known
      const bootstrap = readBootstrap(task)
      if (bootstrap === undefined) throw new Fault('not-found', `task ${task.id} has no shim: not found`)
      follow(task)
      const link = open(bootstrap)
      links.set(key, link)
      const drop = (): void => {
        if (links.get(key) === link) links.delete(key)
      }
      link.then(({ closed }) => closed.then(drop), drop)
      return link
    },
    close: (task) => forget(task.bundle.dir),
    async [Symbol.asyncDispose]() {
      await Promise.all([...new Set([...links.keys(), ...logs.keys()])].map(forget))
    },
  }
}

async function open(bootstrap: Bootstrap): Promise<Link> {
  const { address, version, protocol } = bootstrap
  if (protocol === 'grpc') return openGrpc(socketPathOf(address))
  const connection = await connectTtrpc(socketPathOf(address), CONNECT_MS)
  return {
    client: ttrpcClient(Task, connection, `containerd.task.v${version}.Task`),
    sandbox: ttrpcClient(Sandbox, connection),
    closed: connection.closed,
    [Symbol.asyncDispose]: () => connection[Symbol.asyncDispose](),
  }
}

async function openGrpc(path: string): Promise<Link> {
  await (await connectTtrpc(path, CONNECT_MS))[Symbol.asyncDispose]() // says at once when nobody is there; gRPC tries on
  const channel = connect(path)
  const close = () => channel[Symbol.asyncDispose]()
  await channel.ready(CONNECT_MS).catch(async (error) => {
    await close()
    throw error
  })
  const closed = untilLost(channel).then(close)
  return { client: clientOf(Task, channel), sandbox: clientOf(Sandbox, channel), closed, [Symbol.asyncDispose]: close }
}
