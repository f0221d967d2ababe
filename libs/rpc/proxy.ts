import type { DescMethod, DescService } from '@bufbuild/protobuf'
import { type CallOptions, type ClientDuplexStream, Metadata, type StatusObject, status } from '@grpc/grpc-js'
import type { Channel } from './client.ts'
import { bytes } from './message.ts'
import type { RawCall, RawHandler, Reply, Route } from './server.ts'
import { pathOf } from './service.ts'
import { type CallStatus, toStatus } from './status.ts'
import { readAll, writeAll } from './streams.ts'

/** How long a call waits for an owner that restarts before it answers UNAVAILABLE. */
const WAIT_MS = 5000

/**
 * Passes every call of a service to its owner: bytes of requests and replies, headers, trailers, deadline,
 * cancellation and status go through as they are, nothing is decoded. A call that arrives while the owner restarts
 * waits for it a little.
 */
export function route(service: DescService, owner: Channel): Route {
  return service.methods.map((method) => ({ method, handle: forward(method, owner) }))
}

function forward(method: DescMethod, owner: Channel): RawHandler {
  return async (call, reply, signal) => {
    try {
      await owner.ready(WAIT_MS)
    } catch (error) {
      return reply(toStatus(error, signal))
    }
    if (signal.aborted) return reply(toStatus(signal.reason, signal))
    const onward = open(method, owner, call, reply)
    signal.addEventListener('abort', () => onward.cancel(), { once: true })
    onward.on('metadata', (headers: Metadata) => call.sendMetadata(headers))
    await Promise.all([sendRequests(method, call, onward, signal), sendReplies(method, call, onward, signal, reply)])
  }
}

type Onward = ClientDuplexStream<Buffer, Buffer>

function open(method: DescMethod, owner: Channel, call: RawCall, reply: Reply): Onward {
  const path = pathOf(method)
  const headers = onwardHeaders(call.metadata)
  const deadline = call.getDeadline()
  const options: CallOptions = deadline === Infinity ? {} : { deadline }
  const done = (error: StatusObject | null, message?: Buffer): void =>
    error ? reply(ended(error)) : reply(null, message)
  switch (method.methodKind) {
    case 'unary':
      return owner.raw.makeUnaryRequest(path, bytes, bytes, call.request, headers, options, done) as unknown as Onward
    case 'client_streaming':
      return owner.raw.makeClientStreamRequest(path, bytes, bytes, headers, options, done) as unknown as Onward
    case 'server_streaming':
      return owner.raw.makeServerStreamRequest(path, bytes, bytes, call.request, headers, options) as unknown as Onward
    case 'bidi_streaming':
      return owner.raw.makeBidiStreamRequest(path, bytes, bytes, headers, options)
  }
}

/** Headers of the caller's own, without what belongs to the connection. */
function onwardHeaders(headers: Metadata): Metadata {
  const onward = headers.clone()
  for (const name of ['user-agent', 'te', 'content-type', 'host']) onward.remove(name)
  return onward
}

async function sendRequests(method: DescMethod, call: RawCall, onward: Onward, signal: AbortSignal): Promise<void> {
  if (method.methodKind !== 'client_streaming' && method.methodKind !== 'bidi_streaming') return
  const gone = new AbortController()
  onward.once('status', () => gone.abort())
  try {
    await writeAll(onward, readAll(call), AbortSignal.any([signal, gone.signal]))
    onward.end()
  } catch {
    if (!gone.signal.aborted) onward.cancel() // the caller broke off; its own stream ends with that
  }
}

async function sendReplies(
  method: DescMethod,
  call: RawCall,
  onward: Onward,
  signal: AbortSignal,
  reply: Reply,
): Promise<void> {
  if (method.methodKind !== 'server_streaming' && method.methodKind !== 'bidi_streaming') return
  const last = new Promise<StatusObject>((resolve) => onward.once('status', resolve))
  try {
    await writeAll(call, readAll(onward), signal)
  } catch {
    onward.cancel() // the status below says why
  }
  const result = await last
  if (result.code === status.OK) reply(null)
  else reply(ended(result))
}

function ended({ code, details, metadata }: StatusObject): CallStatus {
  const trailers = metadata instanceof Metadata ? metadata : new Metadata()
  for (const name of ['content-type', 'date']) trailers.remove(name)
  return { code, details, metadata: trailers }
}
