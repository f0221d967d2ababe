import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2'
import type { DescMethod, DescService } from '@bufbuild/protobuf'
import { Fault } from '@gantry/model/fault'
import { ServedCall } from './call.ts'
import type { Channel } from './client.ts'
import type { Heard, Hop } from './hop-client.ts'
import { NOTHING, type Reply } from './hop-wire.ts'
import { headersOf, type Scope } from './scope.ts'
import type { Route, Target } from './server.ts'
import { pathOf } from './service.ts'
import { toStatus } from './status.ts'
import { type MethodTelemetry, type Telemetry, UNWATCHED } from './telemetry.ts'

/** How long a call waits for an owner that restarts before it answers UNAVAILABLE. */
const WAIT_MS = 5000

/**
 * Passes every call of a service to its owner: bytes of requests and replies, headers, deadline, cancellation and status
 * go through as they are, nothing is decoded. A call that arrives while the owner restarts waits for it a little; one that
 * was sent when the owner went answers UNAVAILABLE. The call's id and its place in a trace are the only headers that are
 * ours.
 */
export function route(service: DescService, owner: Channel, telemetry: Telemetry = UNWATCHED): Route {
  return new Map(service.methods.map((method) => [pathOf(method), passing(method, owner, telemetry.of(method))]))
}

function passing({ methodKind }: DescMethod, owner: Channel, watch: MethodTelemetry): Target {
  const pass = methodKind === 'unary' || methodKind === 'server_streaming' ? passOne : passAll
  return {
    serve(stream, headers, live) {
      const call = new ServedCall(stream, headers, live)
      const { scope, end } = watch.begin(call.header)
      call.onOver = end
      const fail = (error: unknown): void => call.end(toStatus(error))
      const reach = (use: (hop: Hop) => void): void => {
        const hop = owner.stream.current()
        if (hop) use(hop)
        else owner.stream.hop(WAIT_MS).then(use, fail)
      }
      pass({ stream, headers, call, scope, fail, reach })
    },
  }
}

interface Passed {
  readonly stream: ServerHttp2Stream
  readonly headers: IncomingHttpHeaders
  readonly call: ServedCall
  readonly scope: Scope
  readonly fail: (error: unknown) => void
  /** Waits for the owner. */
  readonly reach: (use: (hop: Hop) => void) => void
}

/** A call that sends one message: it goes on when that is whole, and again when its owner left without having seen it. */
function passOne({ headers, call, scope, fail, reach }: Passed): void {
  const passOn = (message: Buffer): void =>
    reach((hop) => {
      if (call.isOver) return
      const onward = hop.open(
        onwardHeaders(headers, scope),
        message,
        new Answer(call, { unseen: () => passOn(message) }),
      )
      const cancel = (): void => onward.cancel()
      call.onStop = cancel
    })
  call.message().then(passOn, fail)
}

/** A call that sends as many as it likes: they go on as they come, and no faster than they are taken. */
function passAll({ stream, headers, call, scope, reach }: Passed): void {
  reach((hop) => {
    if (call.isOver) return
    const answer = new Answer(call, { room: () => void stream.resume() })
    const onward = hop.open(onwardHeaders(headers, scope), NOTHING, answer)
    const cancel = (): void => onward.cancel()
    call.onStop = cancel
    stream.on('data', (chunk: Buffer) => {
      if (!onward.write(chunk)) stream.pause()
    })
    stream.on('end', () => onward.end())
  })
}

/** Hands on what the owner answers. */
class Answer implements Heard {
  readonly #call: ServedCall
  readonly #hears: { readonly room?: () => void; readonly unseen?: () => void }

  constructor(call: ServedCall, hears: { readonly room?: () => void; readonly unseen?: () => void }) {
    this.#call = call
    this.#hears = hears
  }

  data(piece: Buffer, taken: () => void): void {
    this.#call.pass(piece, taken)
  }

  room(): void {
    this.#hears.room?.()
  }

  reply({ status, framed }: Reply): void {
    if (framed.length > 0) this.#call.replyFramed(framed)
    else this.#call.end(status)
  }

  lost(): void {
    this.#call.end(GONE)
  }

  unseen(): void {
    if (this.#hears.unseen) this.#hears.unseen()
    else this.lost()
  }
}

function* onwardHeaders(headers: IncomingHttpHeaders, scope: Scope): Generator<[string, string]> {
  const own = headersOf(scope)
  for (const name in headers) {
    const value = headers[name]
    const text = Array.isArray(value) ? value[0] : value
    if (text !== undefined && !OURS.has(name) && !(name in own)) yield [name, text]
  }
  for (const name in own) yield [name, own[name] ?? '']
}

const OURS = new Set([':method', ':scheme', ':authority', 'content-type', 'te', 'user-agent', 'grpc-accept-encoding'])
const GONE = toStatus(new Fault('unavailable', 'The service went away before it had answered: try again'))
