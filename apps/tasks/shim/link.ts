import { Task } from '@gantry/api/containerd/runtime/task/v3/shim_pb'
import { Fault } from '@gantry/model/fault'
import type { Client } from '@gantry/rpc/client'
import { connectTtrpc, type TtrpcConnection, ttrpcClient } from '@gantry/rpc/ttrpc-client'
import type { Process as Service } from '@gantry/service/process'
import type { RuntimeTask } from '../runtime/runtime.ts'
import { type Bootstrap, readBootstrap, socketPathOf } from './bootstrap.ts'
import { followLog } from './log.ts'

const CONNECT_MS = 5000 // as in containerd

/** The connection to one task's shim. */
export interface Link {
  readonly client: Client<typeof Task>
  readonly connection: TtrpcConnection
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
    await (await link?.catch(() => undefined))?.connection[Symbol.asyncDispose]()
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
      link.then(({ connection }) => connection.closed.then(drop), drop)
      return link
    },
    close: (task) => forget(task.bundle.dir),
    async [Symbol.asyncDispose]() {
      await Promise.all([...new Set([...links.keys(), ...logs.keys()])].map(forget))
    },
  }
}

async function open({ address, version }: Bootstrap): Promise<Link> {
  const connection = await connectTtrpc(socketPathOf(address), CONNECT_MS)
  return { connection, client: ttrpcClient(Task, connection, `containerd.task.v${version}.Task`) }
}
