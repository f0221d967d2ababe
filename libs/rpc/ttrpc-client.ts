import { connect as dial, type Socket } from 'node:net'
import { create, type DescMethod, type DescService, fromBinary, toBinary } from '@bufbuild/protobuf'
import { RequestSchema, ResponseSchema } from '@gantry/api/gantry/ttrpc/v1/ttrpc_pb'
import { Fault } from '@gantry/model/fault'
import type { CallOptions, Client } from './client.ts'
import { NAMESPACE_HEADER } from './context.ts'
import { decode, encode } from './message.ts'
import { currentScope, headersOf } from './scope.ts'
import { fromStatus } from './status.ts'
import { encodeFrame, MAX_FRAME_BYTES, REQUEST, RESPONSE, readFrames } from './ttrpc-frame.ts'

const FIRST_STREAM = 1 // a client's are odd, and grow
const NANOS = 1_000_000n

/** A connection over which ttrpc is spoken. It does not reconnect: who lost it has to find out what became of the peer. */
export interface TtrpcConnection extends AsyncDisposable {
  /** Resolves when the connection is lost or disposed; every call that waits has failed then. */
  readonly closed: Promise<void>
  call(service: string, method: string, payload: Uint8Array, options: TtrpcCallOptions): Promise<Uint8Array>
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

type Waiting = Map<number, PromiseWithResolvers<Uint8Array>>

function speak(socket: Socket): TtrpcConnection {
  const waiting: Waiting = new Map()
  let next = FIRST_STREAM
  const closed = receive(socket, waiting).then(() => {
    socket.destroy()
    for (const call of waiting.values()) call.reject(new Fault('unavailable', 'ttrpc: closed'))
    waiting.clear()
  })
  return {
    closed,
    async call(service, method, payload, { signal, namespace, timeoutMs }) {
      const request = create(RequestSchema, {
        ...{ service, method, payload, timeoutNano: BigInt(timeoutMs ?? 0) * NANOS },
        metadata: metadataOf(namespace),
      })
      const bytes = toBinary(RequestSchema, request)
      if (bytes.length > MAX_FRAME_BYTES)
        throw new Fault('resource-exhausted', `Cannot call ${method}: the request has ${bytes.length} bytes`)
      if (socket.destroyed) throw new Fault('unavailable', 'ttrpc: closed')
      const streamId = next
      next += 2
      const reply = Promise.withResolvers<Uint8Array>()
      waiting.set(streamId, reply)
      using _ = givingUp(reply, `${service}/${method}`, signal, timeoutMs)
      socket.write(encodeFrame(streamId, REQUEST, bytes))
      return await reply.promise.finally(() => waiting.delete(streamId))
    },
    async [Symbol.asyncDispose]() {
      socket.destroy()
      await closed
    },
  }
}

function metadataOf(namespace: string | undefined): { key: string; value: string }[] {
  const scope = currentScope()
  const headers = { ...(scope && headersOf(scope)), ...(namespace !== undefined && { [NAMESPACE_HEADER]: namespace }) }
  return Object.entries(headers).map(([key, value]) => ({ key, value }))
}

/** Hands every reply to the call that waits for it; one that nobody waits for any more is passed over. */
async function receive(socket: Socket, waiting: Waiting): Promise<void> {
  try {
    for await (const { streamId, type, payload } of readFrames(socket)) {
      const call = waiting.get(streamId)
      if (call === undefined || type !== RESPONSE) continue
      try {
        call.resolve(replyOf(payload))
      } catch (error) {
        call.reject(error)
      }
    }
  } catch {
    // the connection broke: what waits is told below
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

/** Fails a call when its time is up or nobody wants it any more. The peer is not told: ttrpc has no word for it. */
function givingUp(
  reply: PromiseWithResolvers<Uint8Array>,
  what: string,
  signal: AbortSignal,
  timeoutMs: number | undefined,
): Disposable {
  const abort = (): void => reply.reject(new Fault('cancelled', `${what}: the call was cancelled`))
  const late = (): void => reply.reject(new Fault('deadline-exceeded', `${what}: no reply within ${timeoutMs} ms`))
  const timer = timeoutMs === undefined ? undefined : setTimeout(late, timeoutMs)
  if (signal.aborted) abort()
  signal.addEventListener('abort', abort, { once: true })
  return {
    [Symbol.dispose]() {
      clearTimeout(timer)
      signal.removeEventListener('abort', abort)
    },
  }
}

/**
 * The typed client of a service over ttrpc, for its unary methods.
 * @param name the service's name on the wire, for one that has several versions of the same shape
 */
export function ttrpcClient<S extends DescService>(
  service: S,
  connection: TtrpcConnection,
  name = service.typeName,
): Client<S> {
  const caller = (method: DescMethod) => async (request: unknown, options: CallOptions) => {
    if (method.methodKind !== 'unary')
      throw new Fault('unimplemented', `${method.name} streams, which is not supported`)
    return decode(method.output, await connection.call(name, method.name, encode(method.input, request), options))
  }
  return Object.fromEntries(service.methods.map((method) => [method.localName, caller(method)])) as Client<S>
}
