import type { ClientHttp2Session, ClientHttp2Stream, IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2'
import { constants } from 'node:http2'
import type { DescService } from '@bufbuild/protobuf'
import { Fault } from '@gantry/model/fault'
import { createServedCall, refuse, trailersOf } from './call.ts'
import type { Channel } from './client.ts'
import type { Hop } from './hop.ts'
import { countStream, isFull } from './room.ts'
import { headersOf } from './scope.ts'
import type { Route, Target } from './server.ts'
import { pathOf } from './service.ts'
import { toStatus } from './status.ts'
import { type CallTelemetry, type MethodTelemetry, type Telemetry, UNWATCHED } from './telemetry.ts'

/** How long a call waits for an owner that restarts before it answers UNAVAILABLE. */
const WAIT_MS = 5000
const END_STREAM = 1 // flag of a frame of headers

/**
 * Passes every call of a service to its owner: bytes of requests and replies, headers, trailers, deadline,
 * cancellation and status go through as they are, nothing is decoded. A call that arrives while the owner restarts
 * waits for it a little; one that was sent when the owner went answers UNAVAILABLE. The call's id and its place in a trace
 * are the only headers that are ours.
 */
export function route(service: DescService, owner: Channel, telemetry: Telemetry = UNWATCHED): Route {
  return new Map(
    service.methods.map((method) => {
      const watch = telemetry.of(method)
      return [pathOf(method), method.methodKind === 'unary' ? leaping(owner, watch) : forwarding(owner, watch)]
    }),
  )
}

function forwarding(owner: Channel, watch: MethodTelemetry): Target {
  return {
    serve(stream, headers, live) {
      stream.on('error', () => undefined) // `close` follows
      const call = watch.begin((name) => textOf(headers[name]))
      const session = owner.stream.current()
      if (session) {
        forward(stream, headers, { session, live, call })
        return
      }
      const late = owner.stream.session(WAIT_MS)
      late.then(
        (session) => {
          if (!stream.destroyed) forward(stream, headers, { session, live, call })
          else call.end(CANCELLED)
        },
        (error: unknown) => {
          const status = toStatus(error)
          call.end(stream.destroyed ? CANCELLED : status.code)
          if (!stream.destroyed) refuse(stream, status)
        },
      )
    },
  }
}

function leaping(owner: Channel, watch: MethodTelemetry): Target {
  const others = forwarding(owner, watch)
  return {
    serve(stream, headers, live) {
      const hop = owner.stream.hop()
      if (hop) leap(stream, headers, { hop, live, watch })
      else others.serve(stream, headers, live)
    },
  }
}

/** A call with one message each way takes the hop. */
function leap(
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  { hop, live, watch }: { hop: Hop; live: Set<() => void>; watch: MethodTelemetry },
): void {
  const call = createServedCall(stream, headers)
  const { scope, end } = watch.begin(call.header)
  call.onOver(end)
  const cut = (): void => call.abort(STOPPING)
  live.add(cut)
  stream.on('close', () => live.delete(cut))
  call.message().then(
    (message) => {
      const cancel = hop.call(onwardHeaders(headers, headersOf(scope)), message, (reply) => {
        if (!reply) call.end(GONE)
        else if (reply.status.code === 0) call.reply(reply.message)
        else call.end(reply.status)
      })
      call.onHangup(cancel)
      if (call.isOver) cancel()
    },
    (error: unknown) => call.end(toStatus(error)),
  )
}

function* onwardHeaders(
  headers: IncomingHttpHeaders,
  own: Readonly<Record<string, string>>,
): Generator<[string, string]> {
  for (const name in headers) {
    const value = textOf(headers[name])
    if (value === undefined || OURS.has(name) || name in own) continue
    yield [name, value]
  }
  for (const name in own) yield [name, own[name] ?? '']
}

function textOf(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value
}

const OURS = new Set([':method', ':scheme', ':authority', 'content-type', 'te', 'user-agent', 'grpc-accept-encoding'])
const STOPPING = new Fault('unavailable', 'The service is stopping')

interface Onward {
  readonly session: ClientHttp2Session
  readonly live: Set<() => void>
  readonly call: CallTelemetry
}

function forward(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, { session, live, call }: Onward): void {
  let onward: ClientHttp2Stream
  try {
    onward = session.request(Object.assign(headers, headersOf(call.scope)))
  } catch {
    call.end(GONE.code)
    refuse(stream, GONE) // it went away this very moment
    return
  }
  let trailers: IncomingHttpHeaders | undefined
  const cut = (): void => onward.close(constants.NGHTTP2_CANCEL)
  live.add(cut)

  const counted = countStream()
  pump(stream, onward)
  onward.on('response', (answer, flags) => {
    if (flags & END_STREAM) trailers = answer
    if (stream.destroyed) return
    stream.respond(answer, flags & END_STREAM ? { endStream: true } : { waitForTrailers: true })
    if (!(flags & END_STREAM)) pump(onward, stream)
  })
  onward.on('trailers', (last) => {
    trailers = last
  })
  stream.on('wantTrailers', () => stream.sendTrailers(trailers ?? trailersOf(GONE)))
  onward.on('error', () => undefined) // `close` follows
  onward.on('close', () => {
    live.delete(cut)
    counted[Symbol.dispose]()
    call.end(trailers ? Number(trailers['grpc-status']) : stream.destroyed ? CANCELLED : GONE.code)
    if (stream.destroyed) return
    if (!stream.headersSent) refuse(stream, GONE)
    else if (!stream.writableEnded) stream.end()
    stream.resume() // what still comes is nobody's
  })
  stream.on('close', () => {
    if (!onward.closed) onward.close(constants.NGHTTP2_CANCEL)
  })
}

const CANCELLED = 1
const GONE = toStatus(new Fault('unavailable', 'The service went away before it had answered: try again'))

/** Bytes as they come, and no faster than they are taken. */
function pump(from: ServerHttp2Stream | ClientHttp2Stream, to: ServerHttp2Stream | ClientHttp2Stream): void {
  from.on('data', (chunk: Buffer) => {
    if (!to.writable) return
    if (!to.write(chunk) && isFull(to)) from.pause()
  })
  to.on('drain', () => from.resume())
  from.on('end', () => to.end())
}
