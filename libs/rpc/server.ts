import { chmod, unlink } from 'node:fs/promises'
import { connect as dial } from 'node:net'
import type { DescMethod } from '@bufbuild/protobuf'
import { Fault } from '@gantry/model/fault'
import {
  type handleBidiStreamingCall,
  type handleClientStreamingCall,
  type handleServerStreamingCall,
  type handleUnaryCall,
  Server,
  ServerCredentials,
} from '@grpc/grpc-js'
import { type CallContext, createContext } from './context.ts'
import { healthBinding } from './health.ts'
import type { Log } from './log.ts'
import { bytes, decode, decodeAll, encode, encodeAll, MAX_MESSAGE_BYTES } from './message.ts'
import { type Binding, type ErasedHandler, pathOf } from './service.ts'
import { toStatus } from './status.ts'
import { readAll, writeAll } from './streams.ts'

/** What the kernel takes for a unix socket's path, in bytes. */
export const MAX_SOCKET_PATH_BYTES = 107
const PROBE_MS = 1000 // a socket that takes longer to answer is somebody's, and busy
const GRACE_MS = 300 // how long running calls may go on once the server closes

/** A call as the handlers below see it, whatever its kind. */
export type RawCall = Parameters<handleUnaryCall<Buffer, Buffer>>[0] &
  Parameters<handleServerStreamingCall<Buffer, Buffer>>[0] &
  Parameters<handleClientStreamingCall<Buffer, Buffer>>[0] &
  Parameters<handleBidiStreamingCall<Buffer, Buffer>>[0]
/** Ends a call: with an error status, or with the reply of a call that has just one. */
export type Reply = (error: object | null, message?: Uint8Array) => void
/** Answers one method in bytes. */
export type RawHandler = (call: RawCall, reply: Reply, stop: AbortSignal) => Promise<void>
/** The methods of one service, each answered in bytes: what a binding and a gateway's route both come down to. */
export type Route = readonly { readonly method: DescMethod; readonly handle: RawHandler }[]

/**
 * Serves bindings (decoded) and routes (bytes passed through) on a unix socket until disposed. A socket file that
 * nobody listens on any more is replaced. Running calls get a short grace at the end, then they are cut.
 *
 * @param options.address absolute path of the socket, at most 107 bytes
 * @param options.mode    permission bits of the socket file, 0600 unless told
 * @throws {Fault} `invalid-argument` for a path that is too long, `failed-precondition` when somebody listens there
 */
export async function listen(options: {
  address: string
  bindings: readonly Binding[]
  routes?: readonly Route[]
  mode?: number
  log: Log
}): Promise<AsyncDisposable> {
  await claimSocket(options.address)
  const stop = new AbortController()
  const server = new Server({
    'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
    'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
  })
  allowResets(server)
  const bindings = [...options.bindings, healthBinding()]
  for (const route of [...bindings.map((binding) => routeOf(binding, options.log)), ...(options.routes ?? [])])
    for (const { method, handle } of route) register(server, method, handle, stop.signal)

  await new Promise<void>((resolve, reject) => {
    server.bindAsync(`unix:${options.address}`, ServerCredentials.createInsecure(), (error) =>
      error ? reject(error) : resolve(),
    )
  })
  await chmod(options.address, options.mode ?? 0o600)
  return { [Symbol.asyncDispose]: () => close(server, stop) }
}

/**
 * A Go client resets each stream that it leaves before its trailers came, as when it reads a blob in small ranges. Node
 * closes a session after 1,000 resets in a row; whoever may open our sockets is trusted with more than that. grpc-js has
 * no option for it, so what it hands to node:http2 is completed here.
 */
function allowResets(server: Server): void {
  const http2 = server as unknown as { commonServerOptions?: object }
  http2.commonServerOptions = { ...http2.commonServerOptions, streamResetBurst: 1_000_000, streamResetRate: 100_000 }
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
    const probe = dial(path, () => resolve(true)).on('error', () => resolve(false))
    probe.setTimeout(PROBE_MS, () => resolve(true)).on('connect', () => probe.destroy())
  })
  if (alive) throw new Fault('failed-precondition', `Cannot listen on "${path}": another process serves it`)
  await unlink(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error
  })
}

async function close(server: Server, stop: AbortController): Promise<void> {
  stop.abort(new Fault('unavailable', 'The service is stopping'))
  const drained = new Promise<void>((resolve) => server.tryShutdown(() => resolve()))
  const timer = setTimeout(() => server.forceShutdown(), GRACE_MS)
  await drained
  clearTimeout(timer)
}

/** Registers one method with its bytes untouched, and gives its handler a signal that knows every reason to stop. */
function register(server: Server, method: DescMethod, handle: RawHandler, stop: AbortSignal): void {
  const start = (call: RawCall, reply: Reply): void => {
    const hangup = new AbortController()
    call.on('cancelled', () => hangup.abort(new Fault('cancelled', 'The caller hung up')))
    void handle(call, reply, AbortSignal.any([hangup.signal, stop]))
  }
  switch (method.methodKind) {
    case 'unary':
      server.register(pathOf(method), start as handleUnaryCall<Buffer, Buffer>, bytes, bytes, 'unary')
      break
    case 'client_streaming':
      server.register(pathOf(method), start as handleClientStreamingCall<Buffer, Buffer>, bytes, bytes, 'clientStream')
      break
    case 'server_streaming':
      server.register(
        pathOf(method),
        streaming(start) as handleServerStreamingCall<Buffer, Buffer>,
        bytes,
        bytes,
        'serverStream',
      )
      break
    case 'bidi_streaming':
      server.register(pathOf(method), streaming(start) as handleBidiStreamingCall<Buffer, Buffer>, bytes, bytes, 'bidi')
      break
  }
}

/** Gives the calls that answer with a stream the same way to end as those that answer once. */
function streaming(start: (call: RawCall, reply: Reply) => void): (call: RawCall) => void {
  return (call) => start(call, (error) => (error === null ? call.end() : call.emit('error', error)))
}

function routeOf(binding: Binding, log: Log): Route {
  return binding.service.methods.map((method) => ({
    method,
    handle: async (call, reply, signal) => {
      try {
        const message = await answer(method, binding.handlerOf(method), call, createContext(call.metadata, signal))
        if (!signal.aborted || message !== undefined) reply(null, message)
        else reply(toStatus(signal.reason, signal))
      } catch (error) {
        const status = toStatus(error, signal)
        if (!(error instanceof Fault) && !signal.aborted)
          log.error({ err: error, method: pathOf(method) }, 'A call failed')
        reply(status)
      }
    },
  }))
}

/** Decodes what comes in, calls the handler, writes what goes out; returns the reply of a call that has just one. */
async function answer(
  method: DescMethod,
  handler: ErasedHandler,
  call: RawCall,
  context: CallContext,
): Promise<Uint8Array | undefined> {
  const streamsIn = method.methodKind === 'client_streaming' || method.methodKind === 'bidi_streaming'
  const input = streamsIn ? decodeAll(method.input, readAll(call)) : decode(method.input, call.request)
  const output = handler(input as never, context)
  if (method.methodKind === 'unary' || method.methodKind === 'client_streaming')
    return encode(method.output, await output)
  await writeAll(call, encodeAll(method.output, output as AsyncIterable<unknown>), context.signal)
  return undefined
}
