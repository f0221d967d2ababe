/** A real nats-server for tests, on a loopback port of its own, that can be killed and started again. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { NatsConfig } from './config.ts'

/** Why tests with a server cannot run here, or undefined. */
export const noServer = spawnSync('nats-server', ['--version']).error ? 'nats-server is not installed' : undefined

export interface NatsFixture extends AsyncDisposable {
  readonly folder: string
  readonly config: NatsConfig
  start(): Promise<void>
  /** SIGKILL: nothing is flushed on the way out. */
  kill(): Promise<void>
  /** Forgets everything; only while it is down. */
  wipe(): Promise<void>
}

export async function startNats(): Promise<NatsFixture> {
  const folder = await mkdtemp(join(tmpdir(), 'gantry-nats-'))
  const port = await freePort()
  let child: ChildProcess | undefined
  const store = join(folder, 'jetstream')

  const fixture: NatsFixture = {
    folder,
    config: {
      url: `nats://secret@127.0.0.1:${port}`,
      urlFile: join(folder, 'url'),
      tokenFile: undefined,
      maxAgeH: 1,
      maxBytes: 64 * 1024 * 1024,
      instance: { app: 'content', address: '/run/gantry/content.sock' },
    },
    async start() {
      const argv = ['-js', '-sd', store, '-a', '127.0.0.1', '-p', String(port), '--auth', 'secret']
      child = spawn('nats-server', argv, { stdio: 'ignore' })
      while (!(await answers(port))) await sleep(10)
    },
    async kill() {
      const gone = child && once(child, 'exit')
      child?.kill('SIGKILL')
      await gone
      child = undefined
    },
    wipe: () => rm(store, { recursive: true, force: true }),
    async [Symbol.asyncDispose]() {
      await fixture.kill()
      await rm(folder, { recursive: true, force: true })
    },
  }
  await fixture.start()
  return fixture
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  return typeof address === 'object' && address ? address.port : 0
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => resolve(true)).on('error', () => resolve(false))
    socket.once('connect', () => socket.destroy())
  })
}
