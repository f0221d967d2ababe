import { connect as dial, type Socket } from 'node:net'
import { create, type DescMethod, type DescService, fromBinary, toBinary } from '@bufbuild/protobuf'
import { RequestSchema, ResponseSchema } from '@gantry/api/gantry/ttrpc/v1/ttrpc_pb'
import { Fault } from '@gantry/model/fault'
import type { CallOptions, Client } from './client.ts'
import { decode, decodeAll, encode, encodeAll } from './message.ts'
import { currentScope, headersOf } from './scope.ts'
import { fromStatus } from './status.ts'
import {
  CLOSED,
  DATA,
  encodeFrame,
  type Frame,
  MAX_FRAME_BYTES,
  NO_DATA,
  OPEN,
  REQUEST,
  RESPONSE,
  readFrames,
  TTRPC_NAMESPACE_HEADER,
} from './ttrpc-frame.ts'
import { createInbox, type Inbox, sendAll } from './ttrpc-stream.ts'

const FIRST_STREAM = 1 // a client's are odd, and grow
const NANOS = 1_000_000n

/** A connection over which ttrpc is spoken. It does not reconnect: who lost it has to find out what became of the peer. */
export interface TtrpcConnection extends AsyncDisposable {
  /** Resolves when the connection is lost or disposed; every call that waits has failed then. */
  readonly closed: Promise<void>
  call(service: string, method: string, payload: Uint8Array, options: TtrpcCallOptions): Promise<Uint8Array>
  /**
   * A call with many messages one way or both: sends `messages` and gives what comes back. A reader that is slow holds up the
   * whole connection, so a stream of bytes gets one of its own. Who stops reading is not heard by the peer.
   *
   * @param request the one message of a call that is answered by many; without it, `messages` are sent
   */
  stream(
    service: string,
    method: string,
    sent: { readonly request: Uint8Array } | { readonly messages: AsyncIterable<Uint8Array> },
    options: TtrpcCallOptions,
  ): AsyncIterable<Uint8Array>
}

export type TtrpcCallOptions = Pick<CallOptions, 'signal' | 'namespace' | 'timeoutMs'>

/**
 * Connects to a unix socket.
 * @param path absolute, or a name of the abstract namespace with a NUL in front
 * @throws {Fault} `unavailable` when nobody answers within `timeoutMs`
 */
export async function connectTtrpc(path: string, timeoutMs: number): Promise<TtrpcConnection> {
  const socket = dial(path)
  const opened = new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve)
    socket.once('error', reject)
    socket.setTimeout(timeoutMs, () => reject(new Error('no answer in time')))
  })
  try {
    await opened
  } catch (cause) {
    socket.destroy()
    throw new Fault('unavailable', `Cannot reach "${path.replace('\0', '@')}": nobody answers`, { cause })
  }
  socket.setTimeout(0)
  return speak(socket)
}

/** Who waits for the frames of one call. */
interface Waiter {
  /** @returns when the connection may be read on */
  take(frame: Frame): Promise<void> | void
  fail(error: Fault): void
}
type Waiting = Map<number, Waiter>

function speak(socket: Socket): TtrpcConnection {
  const waiting: Waiting = new Map()
  let next = FIRST_STREAM
  const failAll = (): void => {
    for (const waiter of waiting.values()) waiter.fail(new Fault('unavailable', 'ttrpc: closed'))
    waiting.clear()
  }
  socket.once('close', failAll) // also while a full stream keeps the socket from being read
  const closed = receive(socket, waiting).then(() => {
    socket.destroy()
    failAll()
  })
  /** Registers `waiter` and sends the request. @returns its stream id */
  const begin = (waiter: Waiter, request: Uint8Array, what: string, flags = 0): number => {
    if (request.length > MAX_FRAME_BYTES)
      throw new Fault('resource-exhausted', `Cannot call ${what}: the request has ${request.length} bytes`)
    if (socket.destroyed) throw new Fault('unavailable', 'ttrpc: closed')
    const streamId = next
    next += 2
    waiting.set(streamId, waiter)
    socket.write(encodeFrame(streamId, REQUEST, request, flags))
    return streamId
  }
  return {
    closed,
    async call(service, method, payload, options) {
      const reply = Promise.withResolvers<Uint8Array>()
      using _ = givingUp(reply.reject, `${service}/${method}`, options)
      const waiter: Waiter = {
        take({ type, payload }) {
          if (type === RESPONSE) settle(reply, payload)
        },
        fail: reply.reject,
      }
      const streamId = begin(waiter, encodeRequest(service, method, payload, options), method)
      return await reply.promise.finally(() => waiting.delete(streamId))
    },
    async *stream(service, method, sent, options) {
      const inbox = createInbox()
      using _ = givingUp(inbox.end, `${service}/${method}`, options)
      const one = 'request' in sent ? sent.request : new Uint8Array()
      const request = encodeRequest(service, method, one, options)
      const streamId = begin(streamWaiter(inbox), request, method, 'request' in sent ? CLOSED : OPEN)
      const done = new AbortController()
      try {
        if ('messages' in sent)
          void sendAll(socket, streamId, sent.messages, done.signal).catch((error) => inbox.end(error))
        yield* inbox
      } finally {
        done.abort()
        waiting.delete(streamId)
      }
    },
    async [Symbol.asyncDispose]() {
      socket.destroy()
      await closed
    },
  }
}

function encodeRequest(
  service: string,
  method: string,
  payload: Uint8Array,
  { namespace, timeoutMs }: TtrpcCallOptions,
): Uint8Array {
  const metadata = metadataOf(namespace)
  const timeoutNano = BigInt(timeoutMs ?? 0) * NANOS
  return toBinary(RequestSchema, create(RequestSchema, { service, method, payload, timeoutNano, metadata }))
}

/** Data frames are messages; a response ends the stream, with the one answer to many messages or with an error. */
function streamWaiter(inbox: Inbox): Waiter {
  return {
    async take({ type, flags, payload }) {
      if (type === RESPONSE) {
        const reply = Promise.withResolvers<Uint8Array>()
        settle(reply, payload)
        await reply.promise.then((message) => inbox.push(message)).then(() => inbox.end(), inbox.end)
      } else if (type === DATA) {
        if (payload === undefined) return inbox.end(new Fault('resource-exhausted', 'ttrpc: a message is too large'))
        if ((flags & NO_DATA) === 0) await inbox.push(payload)
        if ((flags & CLOSED) !== 0) inbox.end()
      }
    },
    fail: inbox.end,
  }
}

function metadataOf(namespace: string | undefined): { key: string; value: string }[] {
  const scope = currentScope()
  const headers = {
    ...(scope && headersOf(scope)),
    ...(namespace !== undefined && { [TTRPC_NAMESPACE_HEADER]: namespace }),
  }
  return Object.entries(headers).map(([key, value]) => ({ key, value }))
}

/** Hands every frame to the call that waits for it; one that nobody waits for any more is passed over. */
async function receive(socket: Socket, waiting: Waiting): Promise<void> {
  try {
    for await (const frame of readFrames(socket)) {
      const taken = waiting.get(frame.streamId)?.take(frame)
      if (taken !== undefined) await taken // a unary call is spared the turn of the loop
    }
  } catch {
    // the connection broke: what waits is told when it closes
  }
}

function settle(reply: PromiseWithResolvers<Uint8Array>, payload: Buffer | undefined): void {
  try {
    reply.resolve(replyOf(payload))
  } catch (error) {
    reply.reject(error)
  }
}

function replyOf(payload: Buffer | undefined): Uint8Array {
  if (payload === undefined) throw new Fault('resource-exhausted', 'ttrpc: the reply is too large')
  let response: ReturnType<typeof create<typeof ResponseSchema>>
  try {
    response = fromBinary(ResponseSchema, payload)
  } catch (cause) {
    throw new Fault('internal', 'ttrpc: the reply cannot be read', { cause })
  }
  const { status } = response
  if (status !== undefined && status.code !== 0) throw fromStatus(status.code, status.message)
  return response.payload
}

/**
 * Fails a call when its time is up or nobody wants it any more. The peer is not told: ttrpc has no word for it.
 * @throws {Fault} `cancelled` when nobody wants it already
 */
function givingUp(fail: (error: Fault) => void, what: string, { signal, timeoutMs }: TtrpcCallOptions): Disposable {
  const cancelled = (): Fault => new Fault('cancelled', `${what}: the call was cancelled`)
  if (signal.aborted) throw cancelled()
  const abort = (): void => fail(cancelled())
  const late = (): void => fail(new Fault('deadline-exceeded', `${what}: no reply within ${timeoutMs} ms`))
  const timer = timeoutMs === undefined ? undefined : setTimeout(late, timeoutMs)
  signal.addEventListener('abort', abort, { once: true })
  return {
    [Symbol.dispose]() {
      clearTimeout(timer)
      signal.removeEventListener('abort', abort)
    },
  }
}

/**
 * The typed client of a service over ttrpc.
 * @param name the service's name on the wire, for one that has several versions of the same shape
 */
export function ttrpcClient<S extends DescService>(
  service: S,
  connection: TtrpcConnection,
  name = service.typeName,
): Client<S> {
  const unary = (method: DescMethod) => async (request: unknown, options: CallOptions) =>
    decode(method.output, await connection.call(name, method.name, encode(method.input, request), options))
  const streaming = (method: DescMethod) => (request: unknown, options: CallOptions) => {
    const sent =
      method.methodKind === 'server_streaming'
        ? { request: encode(method.input, request) }
        : { messages: encodeAll(method.input, request as AsyncIterable<unknown>) }
    return decodeAll(method.output, connection.stream(name, method.name, sent, options))
  }
  const caller = (method: DescMethod) => {
    if (method.methodKind === 'unary') return unary(method)
    if (method.methodKind !== 'client_streaming') return streaming(method)
    return async (requests: unknown, options: CallOptions) => {
      for await (const reply of streaming(method)(requests, options)) return reply
      throw new Fault('internal', `${name}/${method.name}: the stream ended without an answer`)
    }
  }
  return Object.fromEntries(service.methods.map((method) => [method.localName, caller(method)])) as Client<S>
}
