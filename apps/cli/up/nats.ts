import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import type { Part } from './supervise.ts'

const TOKEN_BYTES = 32

/** A nats-server of our own: a part to run, and where it listens. */
export interface NatsServer extends Disposable {
  readonly part: Part
  /** 0 before its first start. */
  readonly port: number
  /** It was reached: from now on it keeps its port. */
  settle(): void
}

/**
 * Describes a nats-server that only this machine reaches, and only with a token that is new at each `gantry up`. Files,
 * all 0600: `<state>/nats/nats.conf`, `token`, and `url`, which the services read. Its log of events is kept in
 * `<root>/nats`. The port is picked at the first start, and again only when the server never came up on it.
 */
export function createNats(folders: { readonly root: string; readonly state: string }): NatsServer {
  const dir = join(folders.state, 'nats')
  const store = join(folders.root, 'nats')
  const token = randomBytes(TOKEN_BYTES).toString('hex')
  let port = 0
  let settled = false
  return {
    get port() {
      return port
    },
    settle: () => {
      settled = true
    },
    part: {
      name: 'nats',
      async command() {
        if (!settled) {
          port = await freePort()
          for (const folder of [dir, store]) mkdirSync(folder, { recursive: true, mode: 0o700 })
          writeWhole(join(dir, 'nats.conf'), natsConfig({ port, token, store }))
          writeWhole(join(dir, 'token'), token)
          writeWhole(join(dir, 'url'), `nats://${token}@127.0.0.1:${port}\n`)
        }
        return ['nats-server', '-c', join(dir, 'nats.conf')]
      },
    },
    [Symbol.dispose]: () => rmSync(dir, { recursive: true, force: true }),
  }
}

/** @param config.store an absolute folder; quotes in it are escaped */
function natsConfig(config: { port: number; token: string; store: string }): string {
  return [
    `listen: ${JSON.stringify(`127.0.0.1:${config.port}`)}`,
    `authorization { token: ${JSON.stringify(config.token)} }`,
    'jetstream {',
    `  store_dir: ${JSON.stringify(config.store)}`,
    '  max_memory_store: 16MB',
    '  max_file_store: 64GB', // the limit of the log itself is the services' own setting
    '}',
    '',
  ].join('\n')
}

function writeWhole(path: string, text: string): void {
  writeFileSync(`${path}.new`, text, { mode: 0o600 })
  renameSync(`${path}.new`, path)
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('No port was given')
  return address.port
}
