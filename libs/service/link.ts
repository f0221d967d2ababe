import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { Fault } from '@gantry/model/fault'
import { connect, type ErrorCode, type JetStreamManager, type NatsConnection, NatsError } from 'nats'
import type { Logger } from 'pino'
import { abortable, aborted } from './abortable.ts'
import type { NatsConfig } from './config.ts'
import { ensureStream, STREAM } from './stream.ts'
import { VERSION } from './version.ts'

const FIRST_DELAY_MS = 50
const LAST_DELAY_MS = 2000
const SETTLED_MS = 5000 // a session that lasted this long ends without counting as a failure
const CONNECT_MS = 3000
const PUBLISH_MS = 3000
const PING_MS = 10_000
const CLOSED = new Fault('unavailable', 'The event bus is closed')

/** One connection to the server, whose log is known to exist. It never reconnects: the link opens the next one. */
export interface Session {
  readonly connection: NatsConnection
  readonly manager: JetStreamManager
  /** Aborted when the connection has ended. */
  readonly ended: AbortSignal
  /** @param message.log that of events unless told */
  append(message: { subject: string; id: string; data: Uint8Array; log?: string }): Promise<void>
}

/** Keeps one session open for ever. */
export interface Link {
  readonly session: Session | undefined
  /** The open session or the next one; rejects only when `signal` is aborted or the link is closed. */
  next(signal: AbortSignal): Promise<Session>
  close(): Promise<void>
}

export function createLink(config: NatsConfig, log: Logger): Link {
  const stop = new AbortController()
  let session: Session | undefined
  const waiting = new Set<PromiseWithResolvers<Session>>() // not one promise for all: it would keep those who gave up

  async function run(): Promise<void> {
    let delay = FIRST_DELAY_MS
    let complaint = ''
    while (!stop.signal.aborted) {
      const started = Date.now()
      try {
        session = await openSession(config)
        complaint = ''
        log.info({ server: session.connection.getServer() }, 'The event bus is connected')
        for (const { resolve } of waiting) resolve(session)
        await aborted(AbortSignal.any([session.ended, stop.signal]))
        if (!stop.signal.aborted) log.warn('The event bus is lost: events wait in the outbox')
      } catch (error) {
        const text = error instanceof Error ? error.message : String(error)
        log[text === complaint ? 'debug' : 'warn']({ reason: text }, 'The event bus is not reachable: events wait')
        complaint = text
      }
      await endSession()
      delay = Date.now() - started > SETTLED_MS ? FIRST_DELAY_MS : Math.min(delay * 2, LAST_DELAY_MS)
      await sleep(delay * (0.5 + Math.random() / 2), undefined, { signal: stop.signal }).catch(() => {})
    }
    for (const { reject } of waiting) reject(CLOSED)
  }

  async function endSession(): Promise<void> {
    const connection = session?.connection
    session = undefined
    await connection?.close()
  }

  const running = run()
  return {
    get session() {
      return session
    },
    async next(signal) {
      if (session) return session
      if (stop.signal.aborted) throw CLOSED
      const waiter = Promise.withResolvers<Session>()
      waiting.add(waiter)
      return await abortable(waiter.promise, signal).finally(() => waiting.delete(waiter))
    },
    async close() {
      stop.abort()
      await running
    },
  }
}

async function openSession(config: NatsConfig): Promise<Session> {
  const { server, tls, ...credentials } = await findServer(config)
  const connection = await connect({
    servers: [server],
    ...credentials,
    ...(tls && { tls: {} }),
    name: `gantry-${config.instance.app}`,
    reconnect: false, // its buffer would send what was queued before the break ahead of what has to be repeated
    timeout: CONNECT_MS,
    pingInterval: PING_MS,
    maxPingOut: 2,
    ignoreClusterUpdates: true,
    noAsyncTraces: true, // else each event that is published has a stack trace made, in case it fails
  })
  try {
    const manager = await connection.jetstreamManager({ timeout: CONNECT_MS })
    await ensureStream(manager, config)
    await connection.services.add({
      name: `gantry-${config.instance.app}`,
      version: VERSION,
      description: `Gantry ${config.instance.app}`,
      metadata: { address: config.instance.address },
    })
    return sessionOf(connection, manager)
  } catch (error) {
    await connection.close()
    throw error
  }
}

function sessionOf(connection: NatsConnection, manager: JetStreamManager): Session {
  const ended = new AbortController()
  void connection.closed().then(() => ended.abort())
  const stream = connection.jetstream({ timeout: PUBLISH_MS })
  return {
    connection,
    manager,
    ended: ended.signal,
    async append({ subject, id, data, log = STREAM }) {
      try {
        await stream.publish(subject, data, { msgID: id, timeout: PUBLISH_MS, expect: { streamName: log } })
      } catch (error) {
        if (error instanceof NatsError && error.code === MAX_PAYLOAD)
          throw new Fault('resource-exhausted', 'Cannot publish: the server takes no message of this size')
        void connection.close() // the server or the log is gone: start over
        throw new Fault('unavailable', 'Cannot publish: the event log did not confirm', { cause: error })
      }
    },
  }
}

const MAX_PAYLOAD: `${ErrorCode.MaxPayloadExceeded}` = 'MAX_PAYLOAD_EXCEEDED'

interface Server {
  readonly server: string
  readonly tls: boolean
  readonly user?: string
  readonly pass?: string
  readonly token?: string
}

/** Configuration first, then what `gantry up` wrote; read anew each time, because it may appear or change. */
async function findServer(config: NatsConfig): Promise<Server> {
  const text = config.url ?? (await readText(config.urlFile))
  if (text === undefined) throw new Fault('unavailable', `No server is configured and ${config.urlFile} does not exist`)
  const url = parseServer(text)
  const token = config.tokenFile === undefined ? decodeURIComponent(url.username) : await readText(config.tokenFile)
  if (token === undefined) throw new Fault('unavailable', `Cannot read the token file ${config.tokenFile}`)
  const tls = url.protocol === 'tls:'
  if (url.password !== '')
    return { server: url.host, tls, user: decodeURIComponent(url.username), pass: decodeURIComponent(url.password) }
  return { server: url.host, tls, ...(token !== '' && { token }) }
}

function parseServer(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || url.host === '') throw new Fault('unavailable', 'The URL of the event bus is malformed')
  return url // never shown: it may hold credentials
}

async function readText(path: string): Promise<string | undefined> {
  try {
    return (await readFile(path, 'utf8')).trim()
  } catch {
    return undefined
  }
}
