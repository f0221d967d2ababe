import { chmod, chown, unlink } from 'node:fs/promises'
import {
  createSecureServer,
  createServer,
  type Http2SecureServer,
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2'
import { connect as dial } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { DescMethod } from '@bufbuild/protobuf'
import { Fault } from '@gantry/model/fault'
import { type Call, type Live, refuse, ServedCall } from './call.ts'
import { createContext } from './context.ts'
import { healthBinding } from './health.ts'
import { serveHop } from './hop-server.ts'
import { hopAddress } from './hop-wire.ts'
import { STOPPING } from './life.ts'
import type { Log } from './log.ts'
import { decode, decodeAll, encode, goneOf, MAX_MESSAGE_BYTES } from './message.ts'
import { inScope } from './scope.ts'
import { type Binding, type ErasedHandler, pathOf } from './service.ts'
import { type CallStatus, toStatus } from './status.ts'
import { Table } from './table.ts'
import { type Telemetry, UNWATCHED } from './telemetry.ts'
import { MUTUAL_TLS, type TlsKeys } from './tls.ts'

/** What the kernel takes for a unix socket's path, in bytes. */
export const MAX_SOCKET_PATH_BYTES = 107
const PROBE_MS = 1000 // a socket that takes longer to answer is somebody's, and busy
const LAST_WORDS_MS = 300 // for the statuses of calls that were cut
const POLL_MS = 10
const STREAM_WINDOW = 1024 * 1024 // bytes of one request that may come before they are taken
const MAX_FRAME = 256 * 1024 // bytes: fewer of them cost less
const SESSION_WINDOW = 8 * 1024 * 1024 // and of all requests of a connection
const MAX_HEADERS = 1024 * 1024 // bytes: labels do not travel in headers, but credentials may; nghttp2 takes 64 KiB a header
const MAX_STREAMS = 65_536 // calls at once on a connection: a client may wait for each of its containers
const MAX_REMOTE_STREAMS = 4096
const KEEP_ALIVE_MS = 30_000

const SETTINGS = { initialWindowSize: STREAM_WINDOW, maxFrameSize: MAX_FRAME, maxHeaderListSize: MAX_HEADERS }

/** Bounds of a connection, which it breaks at the cost of being closed. */
const BOUNDS = {
  maxSessionMemory: 1000, // MB: what a connection holds is bounded by its windows
  maxHeaderListPairs: 1000,
}

/**
 * A Go client resets each stream that it leaves before its trailers came, as when it reads a blob in small ranges. Node
 * closes a session after 1,000 resets in a row; whoever may open our sockets is trusted with more than that.
 */
const TRUSTED = { ...BOUNDS, streamResetBurst: 1_000_000, streamResetRate: 100_000 }
const REMOTE = { ...BOUNDS, streamResetBurst: 20_000, streamResetRate: 2000 }

/** Answers calls of one path. */
export interface Target {
  /** @param live each call that runs */
  serve(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, live: Live): void
}
/** The methods of one service by their path: what a binding and a gateway's route both come down to. */
export type Route = ReadonlyMap<string, Target>

/** What is served. */
export interface Served {
  readonly bindings: readonly Binding[]
  readonly routes?: readonly Route[]
  /** How long running calls may go on once the server closes, in ms; not at all unless told. */
  readonly graceMs?: number
  /** Paths of calls that may last for ever: nothing waits for their end. */
  readonly lasting?: ReadonlySet<string>
  /** Hears of every call of the bindings; routes have their own. */
  readonly telemetry?: Telemetry
  readonly log: Log
}

/**
 * Serves bindings (decoded) and routes (bytes passed through) on a unix socket until disposed. A socket file that
 * nobody listens on any more is replaced. Running calls get their grace at the end, then they are cut.
 *
 * @param options.address absolute path of the socket, at most 107 bytes
 * @param options.mode    permission bits of the socket file, 0600 unless told
 * @param options.gid     the group of the socket file
 * @param options.hop     serve the hop for a gateway, too, beside that socket
 * @throws {Fault} `invalid-argument` for a path that is too long, `failed-precondition` when somebody listens there
 */
export async function listen(
  options: Served & { address: string; mode?: number; gid?: number; hop?: boolean },
): Promise<AsyncDisposable> {
  await claimSocket(options.address)
  const server = createServer({ settings: { ...SETTINGS, maxConcurrentStreams: MAX_STREAMS }, ...TRUSTED })
  const serving = serve(server, options)
  const bindings = [...options.bindings, healthBinding()]
  const hop = options.hop ? await listenHop(options.address, bindings, options) : undefined // before anybody may look for it
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(options.address, () => resolve())
  })
  if (options.gid !== undefined) await chown(options.address, -1, options.gid)
  await chmod(options.address, options.mode ?? 0o600)
  return {
    async [Symbol.asyncDispose]() {
      await serving[Symbol.asyncDispose]()
      await hop?.[Symbol.asyncDispose]()
    },
  }
}

/** A server on a port, with mutual TLS. */
export interface TlsServer extends AsyncDisposable {
  readonly port: number
  /** New connections are met with these keys. */
  renew(keys: TlsKeys): void
}

/**
 * Serves the same on a port of TCP, to clients whose certificate is signed by `keys.ca`. There is no way without TLS.
 *
 * @throws {Fault} `failed-precondition` when it cannot listen there
 */
export async function listenTls(options: Served & { host: string; port: number; keys: TlsKeys }): Promise<TlsServer> {
  const { host, port, keys, log } = options
  const limits = { settings: { ...SETTINGS, maxConcurrentStreams: MAX_REMOTE_STREAMS }, ...REMOTE }
  const server = createSecureServer({ ...limits, ...MUTUAL_TLS, ...keys })
  server.on('connection', (socket) => socket.setKeepAlive(true, KEEP_ALIVE_MS))
  server.on('tlsClientError', (error, socket) => {
    log.debug({ reason: error.message, peer: socket.remoteAddress }, 'A connection is refused')
  })
  const serving = serve(server, options)
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => {
      reject(new Fault('failed-precondition', `Cannot listen on ${host}:${port}: ${error.message}`, { cause: error }))
    })
    server.listen({ host, port }, () => resolve())
  })
  const address = server.address()
  return {
    port: typeof address === 'object' && address ? address.port : port,
    renew: (renewed) => server.setSecureContext({ ...MUTUAL_TLS, ...renewed }),
    [Symbol.asyncDispose]: () => serving[Symbol.asyncDispose](),
  }
}

/** Answers the calls of a server; disposing ends it in order. */
function serve(server: Http2Server | Http2SecureServer, options: Served): AsyncDisposable {
  const { log, lasting, graceMs = 0 } = options
  const brief: Live = new Table()
  const endless: Live = new Table()
  const targets = new Map([
    ...[...options.bindings, healthBinding()].flatMap((binding) => [...routeOf(binding, options)]),
    ...(options.routes ?? []).flatMap((route) => [...route]),
  ])
  const sessions = new Set<ServerHttp2Session>()
  server.on('session', (session) => {
    sessions.add(session)
    session.setLocalWindowSize(SESSION_WINDOW)
    session.on('close', () => sessions.delete(session))
    session.on('error', (err) => log.debug({ err }, 'A connection broke'))
  })
  server.on('stream', (stream, headers) => {
    const path = headers[':path'] ?? ''
    const target = targets.get(path)
    if (target) target.serve(stream, headers, lasting?.has(path) ? endless : brief)
    else refuse(stream, unknown(path))
  })
  return {
    async [Symbol.asyncDispose]() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      for (const session of sessions) session.close() // tells each client to make its next call elsewhere
      cut(endless)
      const end = performance.now() + graceMs
      while (brief.size > 0 && performance.now() < end) await sleep(POLL_MS)
      cut(brief)
      const timer = setTimeout(() => sessions.forEach((session) => void session.destroy()), LAST_WORDS_MS)
      await closed
      clearTimeout(timer)
    },
  }
}

function cut(live: Live): void {
  for (const [, call] of live.entries()) call.abort(STOPPING)
}

type Watched = Pick<Served, 'telemetry' | 'log'>

async function listenHop(address: string, bindings: readonly Binding[], watched: Watched): Promise<AsyncDisposable> {
  const path = hopAddress(address)
  await claimSocket(path)
  const answers = new Map(bindings.flatMap((binding) => answersOf(binding, watched)))
  const server = await serveHop(path, (method, call) => {
    const answer = answers.get(method)
    if (answer) answer(call)
    else call.end(unknown(method))
  })
  await chmod(path, 0o600)
  return server
}

function unknown(path: string): CallStatus {
  return toStatus(new Fault('unimplemented', `${path}: unknown service or method`))
}

/** Makes a path free for a socket of ours. @throws {Fault} when it is too long, or somebody listens there */
export async function claimSocket(path: string): Promise<void> {
  const length = Buffer.byteLength(path)
  if (length > MAX_SOCKET_PATH_BYTES)
    throw new Fault(
      'invalid-argument',
      `Cannot listen on "${path}": a socket path may have ${MAX_SOCKET_PATH_BYTES} bytes, this one has ${length}; choose a shorter state folder`,
    )
  const alive = await new Promise<boolean>((resolve) => {
    const probe = dial(path, () => resolve(true))
    probe.on('error', ({ code }: NodeJS.ErrnoException) => resolve(code === 'EAGAIN')) // so many wait for an answer
    probe.setTimeout(PROBE_MS, () => resolve(true)).on('connect', () => probe.destroy())
  })
  if (alive) throw new Fault('failed-precondition', `Cannot listen on "${path}": another process serves it`)
  await unlink(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error
  })
}

/** The methods of a service that is answered here. */
export function routeOf(binding: Binding, watched: Watched): Route {
  return new Map(
    answersOf(binding, watched).map(([path, answer]): [string, Target] => [
      path,
      { serve: (stream, headers, live) => answer(new ServedCall(stream, headers, live)) },
    ]),
  )
}

function answersOf(
  { service, handlerOf }: Binding,
  { telemetry = UNWATCHED, log }: Watched,
): [path: string, answer: (call: Call) => void][] {
  return service.methods.map((method) => {
    const handler = handlerOf(method)
    const watch = telemetry.of(method)
    return [
      pathOf(method),
      (call) => {
        const { scope, end } = watch.begin(call.header)
        call.onOver = end
        const fail = (error: unknown): void => {
          const { signal } = call
          if (!(error instanceof Fault) && !signal.aborted)
            log.error({ err: error, method: pathOf(method) }, 'A call failed')
          call.end(toStatus(error, signal))
        }
        inScope(scope, () => void answer(method, handler, call).catch(fail))
      },
    ]
  })
}

/** Decodes what comes in, calls the handler, writes what goes out. */
async function answer(method: DescMethod, handler: ErasedHandler, call: Call): Promise<void> {
  const streamsIn = method.methodKind === 'client_streaming' || method.methodKind === 'bidi_streaming'
  const context = createContext(call)
  const input = streamsIn ? decodeAll(method.input, call.messages()) : decode(method.input, await call.message())
  const output = handler(input as never, context)
  if (method.methodKind === 'unary' || method.methodKind === 'client_streaming')
    return call.reply(checked(encode(method.output, await output)))
  for await (const init of output as AsyncIterable<unknown>) {
    if (call.isOver) return
    await call.send(checked(encode(method.output, init)), goneOf(init))
  }
  call.end({ code: 0, details: '' })
}

function checked(message: Uint8Array): Uint8Array {
  if (message.length <= MAX_MESSAGE_BYTES) return message
  throw new Fault(
    'resource-exhausted',
    `The answer has ${message.length} bytes, ${MAX_MESSAGE_BYTES} are allowed in one message`,
  )
}
