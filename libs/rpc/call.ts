import { constants, type Http2Session, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2'
import { Fault } from '@gantry/model/fault'
import { createUnframer, framed } from './frame.ts'
import { countStream, isFull } from './room.ts'
import { type CallStatus, toStatus } from './status.ts'

const UNITS_MS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 }
const MAX_TIMER_MS = 2 ** 31 - 1

/** One call that is served: gRPC over a stream of node:http2. */
export interface ServedCall {
  header(name: string): string | undefined
  /** The connection it came over, where that tells who calls. */
  readonly session: Http2Session | undefined
  /** Aborted when the caller hangs up, the deadline passes or the server stops. */
  readonly signal: AbortSignal
  readonly isOver: boolean
  /** The message of a call that sends one. @throws {Fault} when it is not one, or cannot be read */
  message(): Promise<Buffer>
  /** Every message as it comes; the caller waits while nobody takes them. */
  messages(): AsyncGenerator<Buffer>
  /** Resolves when more should be sent: a caller that does not read is waited for. Nothing happens when the call is over. */
  send(message: Uint8Array): Promise<void>
  /** The only reply, and the end. */
  reply(message: Uint8Array): void
  end(status: CallStatus): void
  /** Hears when the caller is gone before the call is over. */
  onHangup(heard: () => void): void
  /** Hears once, with the code of gRPC, when the call is over for whatever reason. */
  onOver(heard: (code: number) => void): void
  /** Ends it from our side, with the fault as its reason. */
  abort(reason: Fault): void
}

export function createServedCall(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): ServedCall {
  let hangup: AbortController | undefined // made when somebody asks: most calls are over before
  let reason: Fault | undefined
  let over = false
  let hungUp: (() => void) | undefined
  let ended: ((code: number) => void) | undefined
  const timer = startDeadline(headers, () => abort(new Fault('deadline-exceeded', 'The deadline has passed')))

  function finish(code: number): void {
    over = true
    clearTimeout(timer)
    ended?.(code)
  }

  function stop(why: Fault): void {
    reason ??= why
    hangup?.abort(reason)
    hungUp?.()
  }

  function abort(why: Fault): void {
    if (over) return
    end(toStatus(why))
    stop(why)
  }

  let final = OK
  function end(status: CallStatus): void {
    if (over) return
    finish(status.code)
    final = status
    if (stream.destroyed) return
    if (!stream.headersSent) stream.respond({ ...HEAD, ...trailersOf(status) }, { endStream: true })
    else stream.end()
    stream.resume() // what still comes is nobody's
  }

  stream.on('error', () => undefined) // `close` follows
  stream.on('close', () => {
    if (over) return
    finish(CANCELLED)
    stop(new Fault('cancelled', 'The caller hung up'))
  })

  return {
    header: (name) => headerOf(headers, name),
    session: stream.session,
    get signal() {
      hangup ??= new AbortController()
      if (reason) hangup.abort(reason)
      return hangup.signal
    },
    get isOver() {
      return over
    },
    message: () => onlyMessage(stream, () => reason),
    messages: () => allMessages(stream, () => reason),
    async send(message) {
      if (over) return
      if (!stream.headersSent) {
        begin(stream, () => final)
        stream.on('close', countStream()[Symbol.dispose])
      }
      await write(stream, message)
    },
    reply(message) {
      if (over) return
      finish(OK.code)
      if (stream.destroyed) return
      begin(stream, () => final)
      const [head, body] = framed(message)
      if (body) stream.write(head)
      stream.end(body ?? head)
      stream.resume()
    },
    end,
    abort,
    onHangup: (heard) => {
      hungUp = heard
    },
    onOver: (heard) => {
      ended = heard
    },
  }
}

/** Sends the head; the status follows when all is said. */
function begin(stream: ServerHttp2Stream, last: () => CallStatus): void {
  stream.respond(HEAD, { waitForTrailers: true })
  stream.once('wantTrailers', () => stream.sendTrailers(trailersOf(last())))
}

function startDeadline(headers: IncomingHttpHeaders, passed: () => void): NodeJS.Timeout | undefined {
  const ms = parseTimeout(headers['grpc-timeout'])
  return ms === undefined ? undefined : setTimeout(passed, Math.min(ms, MAX_TIMER_MS))
}

function headerOf(headers: IncomingHttpHeaders, name: string): string | undefined {
  const value = headers[name]
  return (Array.isArray(value) ? value[0] : value) || undefined
}

function onlyMessage(stream: ServerHttp2Stream, reason: () => Fault | undefined): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const unframer = createUnframer()
    let message: Buffer | undefined
    let ended = false
    stream.on('data', (chunk: Buffer) => {
      try {
        for (const each of unframer.push(chunk)) {
          if (message) throw new Fault('internal', 'A call with one message brought several')
          message = each
        }
      } catch (error) {
        reject(error)
      }
    })
    stream.on('end', () => {
      ended = true
      if (message) resolve(message)
      else reject(new Fault('internal', 'A call with one message brought none'))
    })
    stream.on('close', () => {
      if (!ended) reject(reason() ?? new Fault('cancelled', 'The caller hung up'))
    })
  })
}

async function* allMessages(stream: ServerHttp2Stream, reason: () => Fault | undefined): AsyncGenerator<Buffer> {
  const unframer = createUnframer()
  for await (const chunk of stream.iterator({ destroyOnReturn: false })) yield* unframer.push(chunk)
  if (stream.aborted) throw reason() ?? new Fault('cancelled', 'The caller hung up')
  unframer.end()
}

/** Resolves when there is room for more. */
async function write(stream: ServerHttp2Stream, message: Uint8Array): Promise<void> {
  const [head, body] = framed(message)
  if (body) stream.cork()
  let hasRoom = stream.write(head)
  if (body) {
    hasRoom = stream.write(body)
    stream.uncork()
  }
  if (!hasRoom && isFull(stream)) await drained(stream)
}

const OK: CallStatus = { code: 0, details: '' }
const CANCELLED = 1
const HEAD = { ':status': 200, 'content-type': 'application/grpc' } as const

/** What ends a call on the wire. */
export function trailersOf({ code, details }: CallStatus): Record<string, string> {
  return details === ''
    ? { 'grpc-status': String(code) }
    : { 'grpc-status': String(code), 'grpc-message': escaped(details) }
}

/** What every client takes in trailers: gRPC's C core refuses 8 KiB of them, and Node ends the connection at 64 KiB. */
const MAX_DETAILS = 6000 // characters

/**
 * Percent-encoding of all that is not printable ASCII, as gRPC has it, and of spaces at the ends, which HTTP refuses in a
 * header. A text that is too long is cut: it may quote whatever the caller sent.
 */
function escaped(text: string): string {
  let result = ''
  for (const character of text.slice(0, MAX_DETAILS + 1)) {
    result += PLAIN.test(character) ? character : percent(character)
    if (result.length > MAX_DETAILS) {
      result += '...'
      break
    }
  }
  return result.replace(/^ +| +$/g, (spaces) => '%20'.repeat(spaces.length))
}

const PLAIN = /[\x20-\x24\x26-\x7e]/

function percent(character: string): string {
  return [...Buffer.from(character)].map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`).join('')
}

/** `100m` and the like, in ms. */
export function parseTimeout(text: string | string[] | undefined): number | undefined {
  const [, number, unit = ''] = /^(\d{1,8})([HMSmun])$/.exec(String(text ?? '')) ?? []
  return number === undefined ? undefined : Number(number) * (UNITS_MS[unit] ?? 0)
}

function drained(stream: ServerHttp2Stream): Promise<void> {
  return new Promise((resolve) => {
    if (stream.destroyed) return resolve()
    const done = (): void => {
      stream.off('drain', done)
      stream.off('close', done)
      resolve()
    }
    stream.on('drain', done)
    stream.on('close', done)
  })
}

/** Ends a stream that no handler answers. */
export function refuse(stream: ServerHttp2Stream, status: CallStatus): void {
  stream.on('error', () => undefined)
  stream.respond({ [constants.HTTP2_HEADER_STATUS]: 200, ...HEAD, ...trailersOf(status) }, { endStream: true })
  stream.resume()
}
