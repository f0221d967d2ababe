import type { ClientHttp2Session, ClientHttp2Stream, IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2'
import { constants } from 'node:http2'
import type { DescService } from '@bufbuild/protobuf'
import { Fault } from '@gantry/model/fault'
import { createServedCall, refuse, trailersOf } from './call.ts'
import type { Channel } from './client.ts'
import type { Hop } from './hop.ts'
import { countStream, isFull } from './room.ts'
import type { Route, Target } from './server.ts'
import { pathOf } from './service.ts'
import { toStatus } from './status.ts'

/** How long a call waits for an owner that restarts before it answers UNAVAILABLE. */
const WAIT_MS = 5000
const END_STREAM = 1 // flag of a frame of headers

/**
 * Passes every call of a service to its owner: bytes of requests and replies, headers, trailers, deadline,
 * cancellation and status go through as they are, nothing is decoded. A call that arrives while the owner restarts
 * waits for it a little; one that was sent when the owner went answers UNAVAILABLE.
 */
export function route(service: DescService, owner: Channel): Route {
  const target: Target = {
    serve(stream, headers, live) {
      stream.on('error', () => undefined) // `close` follows
      const session = owner.stream.current()
      if (session) {
        forward(stream, headers, { session, live })
        return
      }
      const late = owner.stream.session(WAIT_MS)
      late.then(
        (session) => {
          if (!stream.destroyed) forward(stream, headers, { session, live })
        },
        (error: unknown) => {
          if (!stream.destroyed) refuse(stream, toStatus(error))
        },
      )
    },
  }
  const once: Target = {
    serve(stream, headers, live) {
      const hop = owner.stream.hop()
      if (hop) leap(stream, headers, { hop, live })
      else target.serve(stream, headers, live)
    },
  }
  return new Map(service.methods.map((method) => [pathOf(method), method.methodKind === 'unary' ? once : target]))
}

/** A call with one message each way takes the hop. */
function leap(
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  { hop, live }: { hop: Hop; live: Set<() => void> },
): void {
  const call = createServedCall(stream, headers)
  const cut = (): void => call.abort(STOPPING)
  live.add(cut)
  stream.on('close', () => live.delete(cut))
  call.message().then(
    (message) => {
      const cancel = hop.call(onwardHeaders(headers), message, (reply) => {
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

function* onwardHeaders(headers: IncomingHttpHeaders): Generator<[string, string]> {
  for (const name in headers) {
    const value = headers[name]
    if (value === undefined || OURS.has(name)) continue
    yield [name, Array.isArray(value) ? (value[0] ?? '') : value]
  }
}

const OURS = new Set([':method', ':scheme', ':authority', 'content-type', 'te', 'user-agent', 'grpc-accept-encoding'])
const STOPPING = new Fault('unavailable', 'The service is stopping')

interface Onward {
  readonly session: ClientHttp2Session
  readonly live: Set<() => void>
}

function forward(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, { session, live }: Onward): void {
  let onward: ClientHttp2Stream
  try {
    onward = session.request(headers)
  } catch {
    refuse(stream, GONE) // it went away this very moment
    return
  }
  let trailers: IncomingHttpHeaders | undefined
  const cut = (): void => onward.close(constants.NGHTTP2_CANCEL)
  live.add(cut)

  const counted = countStream()
  pump(stream, onward)
  onward.on('response', (answer, flags) => {
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
    if (stream.destroyed) return
    if (!stream.headersSent) refuse(stream, GONE)
    else if (!stream.writableEnded) stream.end()
    stream.resume() // what still comes is nobody's
  })
  stream.on('close', () => {
    if (!onward.closed) onward.close(constants.NGHTTP2_CANCEL)
  })
}

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
