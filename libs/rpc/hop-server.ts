/** The side of the hop that answers: see `hop-wire.ts`. */
import { createServer, type Socket } from 'node:net'
import type { Fault } from '@gantry/model/fault'
import type { Call } from './call.ts'
import { createUnframer, framed, headed, SMALL } from './frame.ts'
import {
  Allowance,
  CANCEL,
  CREDIT,
  Credit,
  createReader,
  DATA,
  decodeOpening,
  END,
  encodeNumber,
  encodeReply,
  type Frame,
  LEAVE,
  OPEN,
  type Opening,
  REPLY,
  sender,
} from './hop-wire.ts'
import { Life, STOPPING } from './life.ts'
import { countStream } from './room.ts'
import type { CallStatus } from './status.ts'
import { Table } from './table.ts'
import { createVigil, type Vigil } from './vigil.ts'

const LAST_WORDS_MS = 300 // for the statuses of calls that are cut
const MAX_WAITING = 64 * 1024 * 1024 // bytes that a peer may leave unread before it is cut off
const MAX_QUEUED = 1024 * 1024 // bytes on their way to it before streams wait

/** Serves calls by the hop. The socket file must not be there yet. */
export async function serveHop(address: string, serve: (path: string, call: Call) => void): Promise<AsyncDisposable> {
  const peers = new Set<Peer>()
  const server = createServer((socket) => {
    const peer = greet(socket, serve)
    peers.add(peer)
    socket.on('close', () => peers.delete(peer))
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(address, () => resolve())
  })
  return {
    async [Symbol.asyncDispose]() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      for (const peer of peers) peer.leave()
      const timer = setTimeout(() => peers.forEach((peer) => void peer.destroy()), LAST_WORDS_MS)
      await closed
      clearTimeout(timer)
    },
  }
}

interface Peer {
  leave(): void
  destroy(): void
}

function greet(socket: Socket, serve: (path: string, call: Call) => void): Peer {
  const calls = new Table<HopCall>()
  const send = sender(socket)
  const vigil = createVigil()
  const wire = { send, socket, calls, vigil }
  let last = 0
  let leaving = false

  function open(id: number, payload: Buffer): boolean {
    const opening = decodeOpening(payload)
    if (!opening || calls.get(id)) return false
    if (leaving) return true
    last = id
    if (calls.size > 0) vigil.cease()
    else vigil.came()
    const call = new HopCall(id, opening, wire)
    calls.add(id, call)
    serve(call.header(':path') ?? '', call)
    return true
  }

  const read = createReader({
    frame: ({ id, kind, payload }) => (kind === OPEN ? open(id, payload) : hear(calls.get(id), kind, payload)),
    data: (id, piece) => calls.get(id)?.take(piece),
  })
  socket.setMaxListeners(0) // each stream that waits is one
  socket.on('data', (chunk) => void (read(chunk) || socket.destroy()))
  socket.on('error', () => undefined) // `close` follows
  socket.on('close', () => {
    for (const [, call] of calls.entries()) call.hangUp()
  })
  return {
    leave() {
      leaving = true
      send({ id: 0, kind: LEAVE, payload: encodeNumber(last) })
      for (const [, call] of calls.entries()) call.abort(STOPPING)
      socket.end()
    },
    destroy: () => void socket.destroy(),
  }
}

/** What comes for a call that is over is nobody's. @returns false for a frame that is none */
function hear(call: HopCall | undefined, kind: number, payload: Buffer): boolean {
  if (kind === CANCEL) call?.hangUp()
  else if (kind === END) call?.done()
  else if (kind === CREDIT && payload.length === 4) call?.credit(payload.readUInt32BE(0))
  else return false
  return true
}

interface Wire {
  readonly send: (frame: Frame) => void
  readonly socket: Socket
  readonly calls: Table<HopCall>
  /** For the next call. */
  readonly vigil: Vigil
}

class HopCall extends Life implements Call {
  readonly header: (name: string) => string | undefined
  readonly #id: number
  readonly #wire: Wire
  readonly #message: Buffer
  readonly #credit = new Credit()
  #inbox: Inbox | undefined // of a call that sends a stream
  #room: (() => void) | undefined // somebody waits for it

  constructor(id: number, { headers, message }: Opening, wire: Wire) {
    super(headers.get('grpc-timeout'))
    const header = (name: string): string | undefined => headers.get(name) || undefined
    this.header = header
    this.#id = id
    this.#wire = wire
    this.#message = message
  }

  async message(): Promise<Buffer> {
    return this.#message
  }

  messages(): AsyncIterable<Buffer> {
    return this.#opened.messages()
  }

  get #opened(): Inbox {
    if (this.#inbox) return this.#inbox
    this.#inbox = createInbox((bytes) => this.#send(CREDIT, encodeNumber(bytes)))
    if (this.isOver) this.#inbox.close(this.reason)
    return this.#inbox
  }

  async send(bytes: Uint8Array, gone?: () => void): Promise<void> {
    if (this.isOver || this.#wire.socket.destroyed) return
    this.#credit.spend(bytes.length)
    this.#send(DATA, headed(bytes), bytes, gone)
    while (this.#isFull()) {
      await new Promise<void>((resolve) => {
        this.#room = resolve
        if (this.#credit.some) this.#wire.socket.once('drain', resolve)
      })
      this.#room = undefined
    }
  }

  reply(bytes: Uint8Array): void {
    if (bytes.length <= SMALL) this.end(OK, framed(bytes)[0])
    else void this.send(bytes).then(() => this.end(OK))
  }

  end(status: CallStatus, last?: Uint8Array): void {
    if (!this.close(status.code)) return
    this.#leave()
    const { socket } = this.#wire
    if (socket.writableLength > MAX_WAITING) socket.destroy()
    else if (!socket.destroyed) this.#send(REPLY, encodeReply(status), last)
  }

  override hangUp(): void {
    super.hangUp()
    this.#leave()
  }

  /** A part of what the caller sends. */
  take(piece: Buffer): void {
    this.#opened.take(piece)
  }

  /** The caller has sent all. */
  done(): void {
    this.#opened.close(undefined)
  }

  /** The caller takes so many bytes more. */
  credit(bytes: number): void {
    this.#credit.add(bytes)
    this.#room?.()
  }

  #leave(): void {
    const { calls, vigil } = this.#wire
    if (calls.delete(this.#id) && calls.size === 0) vigil.expect()
    this.#inbox?.close(this.reason)
    this.#room?.()
  }

  #isFull(): boolean {
    return !this.isOver && (!this.#credit.some || this.#wire.socket.writableLength > MAX_QUEUED)
  }

  #send(kind: number, payload: Buffer, body?: Uint8Array, gone?: () => void): void {
    this.#wire.send({ id: this.#id, kind, payload, body, gone })
  }
}

const OK: CallStatus = { code: 0, details: '' }

type Inbox = ReturnType<typeof createInbox>

/** Messages that come, for one who takes them one after the other. */
function createInbox(grant: (bytes: number) => void) {
  const pieces: Buffer[] = []
  const allowance = new Allowance()
  let isOpen = true
  let failure: Fault | undefined
  let more: (() => void) | undefined

  async function* messages(): AsyncGenerator<Buffer> {
    using _ = countStream()
    const unframer = createUnframer()
    for (;;) {
      const piece = pieces.shift()
      if (piece) {
        yield* unframer.push(piece)
        const more = allowance.take(piece.length)
        if (more > 0) grant(more)
      } else if (isOpen)
        await new Promise<void>((resolve) => {
          more = resolve
        })
      else break
    }
    if (failure) throw failure
    unframer.end()
  }

  return {
    messages,
    take(piece: Buffer) {
      if (isOpen) pieces.push(piece)
      more?.()
    },
    /** @param reason why no more comes, when the caller has not sent all */
    close(reason: Fault | undefined) {
      if (!isOpen) return
      isOpen = false
      failure = reason
      more?.()
    },
  }
}
