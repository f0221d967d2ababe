import type { Http2Session, IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2'
import { Fault } from '@gantry/model/fault'
import { createUnframer, framed } from './frame.ts'
import { HANGUP, Life } from './life.ts'
import { countRequest, countStream, isFull, SMALL_REQUEST } from './room.ts'
import type { CallStatus } from './status.ts'
import type { Table } from './table.ts'

/** One call that is served, whatever brings it. */
export interface Call extends Life {
  /** The first value of a header, by its lower-case name. */
  readonly header: (name: string) => string | undefined
  /** The connection it came over, where that tells who calls. */
  readonly session?: Http2Session | undefined
  /** The message of a call that sends one. @throws {Fault} when it is not one, or cannot be read */
  message(): Promise<Buffer>
  /** Every message as it comes; the caller waits while nobody takes them. */
  messages(): AsyncIterable<Buffer>
  /**
   * Resolves when more should be sent: a caller that does not read is waited for. Nothing happens when the call is over.
   *
   * @param gone called when the bytes are sent and may change; never for those that are not sent
   */
  send(message: Uint8Array, gone?: () => void): Promise<void>
  /** The only reply, and the end. */
  reply(message: Uint8Array): void
}

/** Calls that run. */
export type Live = Table<Life>

/** One that comes as a stream of node:http2. */
export class ServedCall extends Life implements Call {
  readonly header: (name: string) => string | undefined
  readonly session: Http2Session | undefined
  readonly #stream: ServerHttp2Stream
  #broken: (() => void) | undefined // somebody waits for a message
  #final = OK

  /** @param live holds it while it runs, so that somebody can end it */
  constructor(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, live: Live) {
    super(headers['grpc-timeout'])
    const header = (name: string): string | undefined => headerOf(headers, name) // see life.ts
    this.header = header
    this.session = stream.session
    this.#stream = stream
    const number = ++calls
    live.add(number, this)
    stream.on('error', nothing) // `close` follows
    stream.on('close', () => {
      live.delete(number)
      this.hangUp()
      this.#broken?.()
      stream.removeAllListeners('removeListener') // while somebody hears of it, each goes by itself
      stream.removeAllListeners() // node may keep the stream for a while (see table.ts): not what it leads to
    })
  }

  message(): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const broken = (): void => reject(this.reason ?? HANGUP)
      this.#broken = broken
      onlyMessage(this.#stream, resolve, reject)
    })
  }

  messages(): AsyncIterable<Buffer> {
    return allMessages(this.#stream, () => this.reason)
  }

  async send(message: Uint8Array, gone?: () => void): Promise<void> {
    if (this.#isGone()) return
    if (!this.#stream.headersSent) this.#beginStream()
    await write(this.#stream, message, gone)
  }

  /** Sends bytes that are framed already. @param gone called when they are sent, or nobody wants them any more */
  pass(bytes: Buffer, gone: () => void): void {
    const stream = this.#stream
    if (this.#isGone()) {
      gone()
      return
    }
    if (!stream.headersSent) this.#beginStream()
    stream.write(bytes, gone)
  }

  reply(message: Uint8Array): void {
    this.replyFramed(...framed(message))
  }

  /** The only reply, framed already, and the end. */
  replyFramed(...pieces: Uint8Array[]): void {
    const stream = this.#stream
    if (this.#isGone() || !this.close(OK.code)) return
    this.#begin()
    const last = pieces.pop()
    for (const piece of pieces) stream.write(piece)
    stream.end(last)
    if (!stream.readableEnded) stream.resume()
  }

  end(status: CallStatus): void {
    const stream = this.#stream
    if (this.#isGone() || !this.close(status.code)) return
    this.#final = status
    if (stream.headersSent) stream.end()
    else stream.respond(only(status), ALL)
    stream.resume() // what still comes is nobody's
  }

  /** Is it over? A stream that its caller reset without an error is closed, but not destroyed before all of it is read. */
  #isGone(): boolean {
    const stream = this.#stream
    if (stream.closed && !this.isOver) {
      this.hangUp()
      stream.destroy()
    }
    return this.isOver || stream.destroyed
  }

  #begin(): void {
    this.#stream.respond(HEAD, MORE)
    this.#stream.on('wantTrailers', () => this.#stream.sendTrailers(trailersOf(this.#final)))
  }

  /** The head of an answer that may be long; the status follows when all is said. */
  #beginStream(): void {
    this.#begin()
    this.#stream.on('close', countStream()[Symbol.dispose])
  }
}

let calls = 0

function headerOf(headers: IncomingHttpHeaders, name: string): string | undefined {
  const value = headers[name]
  return (Array.isArray(value) ? value[0] : value) || undefined
}

function onlyMessage(
  stream: ServerHttp2Stream,
  resolve: (message: Buffer) => void,
  reject: (error: unknown) => void,
): void {
  const unframer = createUnframer()
  let message: Buffer | undefined
  let come = 0
  let large: ReturnType<typeof countRequest> | undefined
  let isRefused = false // what still comes then is nobody's
  const checkRoom = (bytes: number): void => {
    if (!large) {
      large = countRequest()
      stream.on('close', large[Symbol.dispose])
    }
    if (large.add(bytes)) return
    throw new Fault('resource-exhausted', 'There are too many large requests at once: try again')
  }
  stream.on('data', (chunk: Buffer) => {
    if (isRefused) return
    try {
      come += chunk.length
      if (come > SMALL_REQUEST) checkRoom(chunk.length)
      for (const each of unframer.push(chunk)) {
        if (message) throw new Fault('internal', 'A call with one message brought several')
        message = each
      }
    } catch (error) {
      isRefused = true
      reject(error)
    }
  })
  stream.on('end', () => {
    if (message) resolve(message)
    else reject(new Fault('internal', 'A call with one message brought none'))
  })
}

async function* allMessages(stream: ServerHttp2Stream, reason: () => Fault | undefined): AsyncGenerator<Buffer> {
  const unframer = createUnframer()
  for await (const chunk of stream.iterator({ destroyOnReturn: false })) yield* unframer.push(chunk)
  if (stream.aborted) throw reason() ?? HANGUP
  unframer.end()
}

/** Resolves when there is room for more. */
async function write(stream: ServerHttp2Stream, message: Uint8Array, gone?: () => void): Promise<void> {
  const [head, body] = framed(message)
  if (body) stream.cork()
  let hasRoom = stream.write(head, body ? undefined : gone)
  if (body) {
    hasRoom = stream.write(body, gone)
    stream.uncork()
  }
  if (!hasRoom && isFull(stream)) await drained(stream)
}

const nothing = (): void => undefined
const OK: CallStatus = { code: 0, details: '' }
const HEAD = [':status', '200', 'content-type', 'application/grpc']
/** How a head is sent, without a date, as gRPC does: the trailers follow the messages, or there are none. */
const MORE = { waitForTrailers: true, sendDate: false } as const
const ALL = { endStream: true, sendDate: false } as const

/** The whole answer of a call that ends before it has said anything. */
function only(status: CallStatus): string[] {
  return [...HEAD, ...Object.entries(trailersOf(status)).flat()]
}

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
  stream.respond(only(status), ALL)
  stream.resume()
}
