/**
 * The hop between processes of one host. A stream of HTTP/2 for each call costs more than the call itself, so that calls
 * go over a socket of their own beside the one that speaks gRPC, in frames:
 *
 *   frame    length of the rest (4 bytes), number of the call (4), kind (1), payload
 *   open     length (4), headers as `name NUL value NUL ...`, the path under `:path`; the message of a call that sends one
 *   reply    gRPC status (1), length (4), details; the message of a call that answers with one, as gRPC frames it. The last
 *   cancel   nothing
 *   data     bytes of the messages of a stream, as gRPC frames them; a frame may begin and end anywhere in them
 *   end      nothing: the caller is done sending
 *   credit   so many bytes (4) more may come as data
 *   leave    number (4) of the last call that is answered: the process stops, later ones may be made again elsewhere
 *
 * Data needs credit, of which each side has FIRST_CREDIT at the beginning; what it is left is enough for the message that
 * is sent, however large. A peer that sends anything else loses its connection, and what waited for it.
 */
import type { Socket } from 'node:net'
import { MAX_MESSAGE_BYTES } from './message.ts'
import { room } from './room.ts'
import type { CallStatus } from './status.ts'

export const OPEN = 1
export const REPLY = 2
export const CANCEL = 3
export const DATA = 4
export const END = 5
export const CREDIT = 6
export const LEAVE = 7

/** Bytes of data that may be sent on a new call. */
export const FIRST_CREDIT = 64 * 1024
const HEAD = 9 // bytes
const MAX_FRAME = MAX_MESSAGE_BYTES + 2 * 1024 * 1024 // bytes: a message and its headers

export const NOTHING = Buffer.alloc(0)

/** The socket of the hop that belongs to `address`. */
export function hopAddress(address: string): string {
  return `${address}.hop`
}

export interface Frame {
  readonly id: number
  readonly kind: number
  readonly payload: Buffer
  /** Bytes behind the payload. They must stay as they are until `gone` is called. */
  readonly body?: Uint8Array | undefined
  readonly gone?: (() => void) | undefined
}

/** Writes frames; those of one turn leave together. */
export function sender(socket: Socket): (frame: Frame) => void {
  let corked = false
  const uncork = (): void => {
    corked = false
    socket.uncork()
  }
  return ({ id, kind, payload, body, gone }) => {
    if (!corked) {
      corked = true
      socket.cork()
      process.nextTick(uncork)
    }
    const head = Buffer.allocUnsafe(HEAD + payload.length)
    head.writeUInt32BE(HEAD - 4 + payload.length + (body?.length ?? 0), 0)
    head.writeUInt32BE(id, 4)
    head[8] = kind
    head.set(payload, HEAD)
    socket.write(head)
    if (body && body.length > 0) socket.write(body, gone)
    else gone?.()
  }
}

/** Hears what comes. */
export interface Receiver {
  /** A frame that is whole, in bytes of its own. @returns false when it is none of this hop */
  frame(frame: Frame): boolean
  /** Bytes of a call as they come: a view of what was given to the reader. */
  data(id: number, piece: Buffer): void
}

/** Takes frames out of bytes as they come. @returns what takes the bytes, and says false when they are no frames */
export function createReader(receiver: Receiver): (chunk: Buffer) => boolean {
  const head = Buffer.alloc(HEAD)
  let held = 0 // bytes of the head
  let rest = 0 // bytes of the payload that are still to come
  let payload = NOTHING
  let [id, kind] = [0, 0]

  /** @returns false when there is no such frame */
  function begin(): boolean {
    const length = head.readUInt32BE(0)
    if (length > MAX_FRAME || length < HEAD - 4) return false
    rest = length - (HEAD - 4)
    id = head.readUInt32BE(4)
    kind = head[8] ?? 0
    if (kind !== DATA) payload = Buffer.allocUnsafe(rest)
    return true
  }

  return (chunk) => {
    for (let at = 0; at < chunk.length; ) {
      if (held < HEAD) {
        const taken = chunk.copy(head, held, at)
        held += taken
        at += taken
        if (held < HEAD) return true
        if (!begin()) return false
      }
      const end = Math.min(chunk.length, at + rest)
      if (kind === DATA && end > at) receiver.data(id, chunk.subarray(at, end))
      else if (end > at) chunk.copy(payload, payload.length - rest, at, end)
      rest -= end - at
      at = end
      if (rest > 0) return true
      held = 0
      if (kind !== DATA && !receiver.frame({ id, kind, payload })) return false
    }
    return true
  }
}

/** Credit for data that is sent. */
export class Credit {
  #left = FIRST_CREDIT

  /** May more be sent? */
  get some(): boolean {
    return this.#left > 0
  }

  spend(bytes: number): void {
    this.#left -= bytes
  }

  add(bytes: number): void {
    this.#left += bytes
  }
}

/** Credit for data that comes: it is given as fast as that is taken, and as far as there is room. */
export class Allowance {
  #allowed = FIRST_CREDIT // what may come, and what has come and is not taken yet

  /** So many bytes are taken. @returns how many more may come, of which the peer does not know yet */
  take(bytes: number): number {
    this.#allowed -= bytes
    const most = Math.floor(2 * room())
    if (this.#allowed > most / 2) return 0
    const more = most - this.#allowed
    this.#allowed = most
    return more
  }
}

/** The payload of credit and leave. */
export function encodeNumber(number: number): Buffer {
  const payload = Buffer.allocUnsafe(4)
  payload.writeUInt32BE(number, 0)
  return payload
}

export function encodeHeaders(headers: Iterable<readonly [string, string]>): Buffer {
  let text = ''
  for (const [name, value] of headers) text += `${name}\0${value}\0`
  const bytes = Buffer.from(`    ${text}`, 'latin1')
  bytes.writeUInt32BE(bytes.length - 4, 0)
  return bytes
}

export interface Opening {
  readonly headers: ReadonlyMap<string, string>
  readonly message: Buffer
}

/** Undefined when it is none. */
export function decodeOpening(payload: Buffer): Opening | undefined {
  const end = payload.length < 4 ? Number.POSITIVE_INFINITY : 4 + payload.readUInt32BE(0)
  if (end > payload.length) return undefined
  const fields = payload.toString('latin1', 4, end).split('\0')
  const headers = new Map<string, string>()
  for (let at = 0; at + 1 < fields.length; at += 2) headers.set(fields[at] ?? '', fields[at + 1] ?? '')
  return { headers, message: payload.subarray(end) }
}

export interface Reply {
  readonly status: CallStatus
  /** The message with gRPC's head before it; nothing when it has come as data, or there is none. */
  readonly framed: Buffer
}

export function encodeReply({ code, details }: CallStatus): Buffer {
  const text = Buffer.from(details)
  const bytes = Buffer.allocUnsafe(5 + text.length)
  bytes[0] = code
  bytes.writeUInt32BE(text.length, 1)
  bytes.set(text, 5)
  return bytes
}

/** Undefined when it is none. */
export function decodeReply(payload: Buffer): Reply | undefined {
  const end = payload.length < 5 ? Number.POSITIVE_INFINITY : 5 + payload.readUInt32BE(1)
  if (end > payload.length) return undefined
  return {
    status: { code: payload[0] ?? 2, details: payload.toString('utf8', 5, end) },
    framed: payload.subarray(end),
  }
}
