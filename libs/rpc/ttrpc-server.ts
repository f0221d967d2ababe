import { once } from 'node:events'
import { chmod } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import { create, type DescMethod, fromBinary, toBinary } from '@bufbuild/protobuf'
import { type Request, RequestSchema, ResponseSchema } from '@gantry/api/gantry/ttrpc/v1/ttrpc_pb'
import { Fault } from '@gantry/model/fault'
import { type CallContext, createContext, NAMESPACE_HEADER } from './context.ts'
import { LATE, MAX_TIMER_MS } from './life.ts'
import type { Log } from './log.ts'
import { decode, decodeAll, encode, encodeAll } from './message.ts'
import { inScope } from './scope.ts'
import { claimSocket } from './server.ts'
import type { Binding, ErasedHandler } from './service.ts'
import { fromStatus, toStatus } from './status.ts'
import { type Telemetry, UNWATCHED } from './telemetry.ts'
import {
  CLOSED,
  DATA,
  encodeFrame,
  type Frame,
  NO_DATA,
  REQUEST,
  RESPONSE,
  readFrames,
  TTRPC_NAMESPACE_HEADER,
} from './ttrpc-frame.ts'
import { createInbox, type Inbox, sendAll } from './ttrpc-stream.ts'

const MAX_CALLS = 16 // of one connection at a time, and as many streams
const MAX_STREAMS = MAX_CALLS
const NANOS = 1_000_000n // a millisecond has

export interface TtrpcParts {
  /** Absolute path of the unix socket; it gets the mode 0600. */
  readonly address: string
  readonly bindings: readonly Binding[]
  /** Hears of every call. */
  readonly telemetry?: Telemetry
  readonly log: Log
}

/**
 * Serves services over ttrpc until disposed. Of one connection a few calls are answered at a time, and it is not read
 * meanwhile: a peer that floods us waits for itself. So does one whose stream is read slowly.
 * @throws {Fault} as `listen` does
 */
export async function listenTtrpc(parts: TtrpcParts): Promise<AsyncDisposable> {
  await claimSocket(parts.address)
  const stop = new AbortController()
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    void serve(parts, socket, stop.signal)
  })
  server.listen(parts.address)
  await once(server, 'listening')
  await chmod(parts.address, 0o600)
  return {
    async [Symbol.asyncDispose]() {
      stop.abort(new Fault('unavailable', 'The service is stopping'))
      for (const socket of sockets) socket.destroy()
      await closed(server)
    },
  }
}

async function serve(parts: TtrpcParts, socket: Socket, signal: AbortSignal): Promise<void> {
  const gone = new AbortController()
  const streams = new Map<number, Inbox>()
  let room = (): void => undefined
  socket.once('close', () => {
    gone.abort(new Fault('cancelled', 'the peer went away'))
    for (const inbox of streams.values()) inbox.end(gone.signal.reason)
    room()
  })
  const connection = { socket, streams, signal: AbortSignal.any([signal, gone.signal]) }
  let last = 0
  let calls = 0
  try {
    for await (const frame of readFrames(socket)) {
      const { streamId } = frame
      const inbox = streams.get(streamId)
      if (inbox !== undefined && frame.type === DATA) {
        await receiveData(inbox, frame)
        continue
      }
      const isNew = streamId % 2 === 1 && streamId > last
      if (isNew) last = streamId
      if (isNew && frame.type === REQUEST && frame.flags !== 0) {
        void stream(parts, connection, frame)
        continue
      }
      calls++
      void answer(parts, frame, isNew, connection.signal).then((reply) => {
        send(socket, streamId, reply)
        calls--
        room()
      })
      if (calls >= MAX_CALLS)
        await new Promise<void>((resolve) => {
          room = resolve
        })
      if (socket.writableNeedDrain) await once(socket, 'drain', { signal: connection.signal })
    }
  } catch {
    // the peer went away
  }
  socket.destroy()
}

interface Connection {
  readonly socket: Socket
  /** What its streams still have to read, by their ids. */
  readonly streams: Map<number, Inbox>
  /** Aborted when the peer goes away or the process stops. */
  readonly signal: AbortSignal
}

async function receiveData(inbox: Inbox, { flags, payload }: Frame): Promise<void> {
  if (payload === undefined) return inbox.end(new Fault('resource-exhausted', 'the message is too large'))
  if ((flags & NO_DATA) === 0) await inbox.push(payload)
  if ((flags & CLOSED) !== 0) inbox.end()
}

/** A call with many messages one way or both. It ends with an empty frame, with its one answer, or with what went wrong. */
async function stream(parts: TtrpcParts, { socket, streams, signal }: Connection, frame: Frame): Promise<void> {
  const { streamId, flags, payload } = frame
  const inbox = createInbox()
  try {
    if (streams.size >= MAX_STREAMS) throw new Fault('resource-exhausted', `more than ${MAX_STREAMS} streams`)
    if (payload === undefined) throw new Fault('resource-exhausted', 'the message is too large')
    streams.set(streamId, inbox)
    const request = parseRequest(payload)
    if ((flags & CLOSED) !== 0) {
      await inbox.push(request.payload)
      inbox.end()
    }
    const single = await callMethod(parts, request, signal, async ({ method, handler, context }) => {
      const input = decodeAll(method.input, inbox)
      if (method.methodKind === 'unary') throw unknownMethod(request)
      if (method.methodKind === 'client_streaming') return encode(method.output, await handler(input as never, context))
      const first = method.methodKind === 'server_streaming' ? await firstOf(input) : input
      const output = handler(first as never, context) as AsyncIterable<unknown>
      await sendAll(socket, streamId, encodeAll(method.output, output), context.signal)
      return undefined
    })
    if (single !== undefined) send(socket, streamId, responseOf(single))
  } catch (error) {
    inbox.end(error) // a handler that still waits for messages when its time is over gets no more
    send(socket, streamId, failureOf(error, signal))
  } finally {
    streams.delete(streamId)
  }
}

async function firstOf(messages: AsyncIterable<unknown>): Promise<unknown> {
  for await (const message of messages) return message
  throw new Fault('invalid-argument', 'the request has no message')
}

function send(socket: Socket, streamId: number, response: Uint8Array): void {
  if (!socket.destroyed) socket.write(encodeFrame(streamId, RESPONSE, response))
}

/** The response to a frame that begins no stream, whatever it holds. */
async function answer(parts: TtrpcParts, frame: Frame, isNew: boolean, signal: AbortSignal): Promise<Uint8Array> {
  try {
    if (!isNew) throw new Fault('invalid-argument', `stream id ${frame.streamId} is even, or not larger than the last`)
    if (frame.payload === undefined) throw new Fault('resource-exhausted', 'the message is too large')
    if (frame.type !== REQUEST) throw new Fault('invalid-argument', `stream ${frame.streamId} has not begun`)
    const request = parseRequest(frame.payload)
    return responseOf(
      await callMethod(parts, request, signal, async ({ method, handler, context }) => {
        if (method.methodKind !== 'unary') throw unknownMethod(request)
        return encode(method.output, await handler(decode(method.input, request.payload) as never, context))
      }),
    )
  } catch (error) {
    return failureOf(error, signal)
  }
}

function responseOf(payload: Uint8Array): Uint8Array {
  return toBinary(ResponseSchema, create(ResponseSchema, { payload }))
}

function failureOf(error: unknown, signal: AbortSignal): Uint8Array {
  const { code, details } = toStatus(error, signal)
  return toBinary(ResponseSchema, create(ResponseSchema, { status: { code, message: details } }))
}

function parseRequest(payload: Uint8Array): Request {
  try {
    return fromBinary(RequestSchema, payload)
  } catch (cause) {
    throw new Fault('invalid-argument', 'the request cannot be read', { cause })
  }
}

interface Called {
  readonly method: DescMethod
  readonly handler: ErasedHandler
  readonly context: CallContext
}

/** Finds the method and runs its work, with whoever counts calls looking on. */
async function callMethod<T>(
  { bindings, telemetry = UNWATCHED, log }: TtrpcParts,
  request: Request,
  signal: AbortSignal,
  work: (called: Called) => Promise<T>,
): Promise<T> {
  const binding = bindings.find(({ service }) => service.typeName === request.service)
  const method = binding?.service.methods.find(({ name }) => name === request.method)
  if (binding === undefined || method === undefined) throw unknownMethod(request)
  const header = (name: string): string | undefined => {
    const wanted = name === NAMESPACE_HEADER ? TTRPC_NAMESPACE_HEADER : name
    return request.metadata.find(({ key }) => key.toLowerCase() === wanted)?.value || undefined
  }
  const { scope, end } = telemetry.of(method).begin(header)
  return await inScope(scope, async () => {
    using deadline = startDeadline(request.timeoutNano, signal)
    try {
      const context = createContext({ header, signal: deadline.signal })
      const result = await Promise.race([
        work({ method, handler: binding.handlerOf(method), context }),
        deadline.passed,
      ])
      end(0)
      return result
    } catch (error) {
      if (!(error instanceof Fault) && !signal.aborted)
        log.error({ err: error, method: method.name }, 'A call over ttrpc failed')
      const { code, details } = toStatus(error, signal)
      end(code)
      throw fromStatus(code, details, error)
    }
  })
}

/** The time that the caller gives a call: its handler is told when it is over, and need not listen. 0 is no end. */
function startDeadline(timeoutNano: bigint, signal: AbortSignal) {
  const late = new AbortController()
  const passed = Promise.withResolvers<never>()
  const pass = (): void => {
    late.abort(LATE)
    passed.reject(LATE)
  }
  const ms = Math.min(Number(timeoutNano / NANOS), MAX_TIMER_MS)
  const timer = timeoutNano > 0n ? setTimeout(pass, ms) : undefined
  return {
    signal: AbortSignal.any([signal, late.signal]),
    passed: passed.promise,
    [Symbol.dispose]: () => clearTimeout(timer),
  }
}

function unknownMethod({ service, method }: Request): Fault {
  return new Fault('unimplemented', `/${service}/${method}: unknown service or method`)
}

function closed(server: Server): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()))
}
