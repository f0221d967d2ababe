import { chmod, unlink } from 'node:fs/promises'
import { createServer, type IncomingHttpHeaders, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2'
import { connect as dial } from 'node:net'
import type { DescMethod } from '@bufbuild/protobuf'
import { Fault } from '@gantry/model/fault'
import { createServedCall, refuse, type ServedCall } from './call.ts'
import { createContext } from './context.ts'
import { healthBinding } from './health.ts'
import { hopAddress, hopMethods, serveHop } from './hop.ts'
import type { Log } from './log.ts'
import { decode, decodeAll, encode, MAX_MESSAGE_BYTES } from './message.ts'
import { type Binding, type ErasedHandler, pathOf } from './service.ts'
import { toStatus } from './status.ts'

/** What the kernel takes for a unix socket's path, in bytes. */
export const MAX_SOCKET_PATH_BYTES = 107
const PROBE_MS = 1000 // a socket that takes longer to answer is somebody's, and busy
const GRACE_MS = 300 // how long running calls may go on once the server closes
const STREAM_WINDOW = 1024 * 1024 // bytes of one request that may come before they are taken
const MAX_FRAME = 256 * 1024 // bytes: fewer of them cost less
const SESSION_WINDOW = 8 * 1024 * 1024 // and of all requests of a connection

/** Answers calls of one path. */
export interface Target {
  /** @param live each call that runs, by what cuts it when the server stops */
  serve(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, live: Set<() => void>): void
}
/** The methods of one service by their path: what a binding and a gateway's route both come down to. */
export type Route = ReadonlyMap<string, Target>

/**
 * Serves bindings (decoded) and routes (bytes passed through) on a unix socket until disposed. A socket file that
 * nobody listens on any more is replaced. Running calls get a short grace at the end, then they are cut.
 *
 * @param options.address absolute path of the socket, at most 107 bytes
 * @param options.mode    permission bits of the socket file, 0600 unless told
 * @param options.hop     serve the hop for a gateway, too, beside that socket
 * @throws {Fault} `invalid-argument` for a path that is too long, `failed-precondition` when somebody listens there
 */
export async function listen(options: {
  address: string
  bindings: readonly Binding[]
  routes?: readonly Route[]
  mode?: number
  hop?: boolean
  log: Log
}): Promise<AsyncDisposable> {
  await claimSocket(options.address)
  const live = new Set<() => void>()
  const bindings = [...options.bindings, healthBinding()]
  const targets = new Map([
    ...bindings.flatMap((binding) => [...routeOf(binding, options.log)]),
    ...(options.routes ?? []).flatMap((route) => [...route]),
  ])
  const sessions = new Set<ServerHttp2Session>()
  const server = createServer({
    settings: { initialWindowSize: STREAM_WINDOW, maxFrameSize: MAX_FRAME, maxHeaderListSize: MAX_HEADERS },
    maxSessionMemory: 1000, // MB: what a connection holds is bounded by its windows
    maxHeaderListPairs: 1000,
    // A Go client resets each stream that it leaves before its trailers came, as when it reads a blob in small ranges. Node
    // closes a session after 1,000 resets in a row; whoever may open our sockets is trusted with more than that.
    streamResetBurst: 1_000_000,
    streamResetRate: 100_000,
  })
  server.on('session', (session) => {
    sessions.add(session)
    session.setLocalWindowSize(SESSION_WINDOW)
    session.on('close', () => sessions.delete(session))
    session.on('error', (err) => options.log.debug({ err }, 'A connection broke'))
  })
  server.on('stream', (stream, headers) => {
    const path = headers[':path'] ?? ''
    const target = targets.get(path)
    if (target) target.serve(stream, headers, live)
    else refuse(stream, toStatus(new Fault('unimplemented', `${path}: unknown service or method`)))
  })
  const hop = options.hop ? await listenHop(options.address, bindings, options.log) : undefined // before anybody may look for it
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(options.address, () => resolve())
  })
  await chmod(options.address, options.mode ?? 0o600)
  return {
    async [Symbol.asyncDispose]() {
      for (const cut of live) cut()
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      for (const session of sessions) session.close()
      const timer = setTimeout(() => sessions.forEach((session) => void session.destroy()), GRACE_MS)
      await closed
      clearTimeout(timer)
      await hop?.[Symbol.asyncDispose]()
    },
  }
}

async function listenHop(address: string, bindings: readonly Binding[], log: Log): Promise<AsyncDisposable> {
  const path = hopAddress(address)
  await claimSocket(path)
  const server = await serveHop(path, hopMethods(bindings), log)
  await chmod(path, 0o600)
  return server
}

const STOPPING = new Fault('unavailable', 'The service is stopping')
const MAX_HEADERS = 1024 * 1024 // bytes: labels do not travel in headers, but credentials may

/** Makes a path free for a socket of ours. @throws {Fault} when it is too long, or somebody listens there */
export async function claimSocket(path: string): Promise<void> {
  const length = Buffer.byteLength(path)
  if (length > MAX_SOCKET_PATH_BYTES)
    throw new Fault(
      'invalid-argument',
      `Cannot listen on "${path}": a socket path may have ${MAX_SOCKET_PATH_BYTES} bytes, this one has ${length}; choose a shorter state folder`,
    )
  const alive = await new Promise<boolean>((resolve) => {
    const probe = dial(path, () => resolve(true)).on('error', () => resolve(false))
    probe.setTimeout(PROBE_MS, () => resolve(true)).on('connect', () => probe.destroy())
  })
  if (alive) throw new Fault('failed-precondition', `Cannot listen on "${path}": another process serves it`)
  await unlink(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error
  })
}

function routeOf(binding: Binding, log: Log): Route {
  const targets = binding.service.methods.map((method): [string, Target] => {
    const handler = binding.handlerOf(method)
    const serve: Target['serve'] = (stream, headers, live) => {
      const call = createServedCall(stream, headers)
      const cut = (): void => call.abort(STOPPING)
      live.add(cut)
      stream.on('close', () => live.delete(cut))
      void answer(method, handler, call).catch((error: unknown) => {
        const { signal } = call
        if (!(error instanceof Fault) && !signal.aborted)
          log.error({ err: error, method: pathOf(method) }, 'A call failed')
        call.end(toStatus(error, signal))
      })
    }
    return [pathOf(method), { serve }]
  })
  return new Map(targets)
}

/** Decodes what comes in, calls the handler, writes what goes out. */
async function answer(method: DescMethod, handler: ErasedHandler, call: ServedCall): Promise<void> {
  const streamsIn = method.methodKind === 'client_streaming' || method.methodKind === 'bidi_streaming'
  const context = createContext(call)
  const input = streamsIn ? decodeAll(method.input, call.messages()) : decode(method.input, await call.message())
  const output = handler(input as never, context)
  if (method.methodKind === 'unary' || method.methodKind === 'client_streaming')
    return call.reply(checked(encode(method.output, await output)))
  for await (const init of output as AsyncIterable<unknown>) {
    if (call.isOver) return
    await call.send(checked(encode(method.output, init)))
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
