/** The side of the hop that calls: see `hop-wire.ts`. */
import { connect as dial } from 'node:net'
import {
  Allowance,
  CANCEL,
  CREDIT,
  Credit,
  createReader,
  DATA,
  decodeReply,
  END,
  encodeHeaders,
  encodeNumber,
  type Frame,
  LEAVE,
  NOTHING,
  OPEN,
  REPLY,
  type Reply,
  sender,
} from './hop-wire.ts'
import { createSlabs } from './slabs.ts'
import { Table } from './table.ts'
import { createVigil } from './vigil.ts'

/** A connection over which calls hop. */
export interface Hop {
  /** @param message of a call that sends one */
  open(headers: Iterable<readonly [string, string]>, message: Uint8Array, heard: Heard): HopCall
}

/** Hears of a call. */
export interface Heard {
  /** Bytes of the answer, as gRPC frames it. More come as fast as `taken` is called for them, after which they may change. */
  data(piece: Buffer, taken: () => void): void
  /** There is room for more of what is sent. */
  room(): void
  /** The end. */
  reply(reply: Reply): void
  /** The connection broke: nobody knows how far the call came. */
  lost(): void
  /** The peer leaves and never saw the call. */
  unseen(): void
}

export interface HopCall {
  /** Sends bytes of the messages. @returns whether there is room for more */
  write(bytes: Uint8Array): boolean
  end(): void
  cancel(): void
}

/** Opens the hop to a process. @param lost called once, when it takes no more calls */
export function openHop(address: string, ready: (hop: Hop) => void, lost: () => void): Disposable {
  const calls = new Table<OpenCall>()
  const slabs = createSlabs()
  const vigil = createVigil()
  const read = createReader({ data, frame })
  const socket = dial({
    path: address,
    onread: {
      buffer: slabs.next,
      callback: (size, slab) => {
        if (!read(Buffer.from(slab.buffer, slab.byteOffset, size))) socket.destroy()
        return true
      },
    },
  })
  const send = sender(socket)
  let last = 0
  const lose = once(lost) // by the time the socket of a peer that left closes, there may be another
  socket.on('error', () => undefined) // `close` follows
  socket.on('connect', () => ready({ open }))
  socket.on('close', () => {
    lose()
    for (const [id, { heard }] of calls.entries()) {
      calls.delete(id)
      heard.lost()
    }
  })

  /** @param number of the last call that is answered */
  function leave(number: number): void {
    lose()
    for (const [id, { heard }] of calls.entries()) {
      if (((id - number) | 0) <= 0) continue // numbers start again after the last
      calls.delete(id)
      heard.unseen()
    }
  }

  function data(id: number, piece: Buffer): void {
    const call = calls.get(id)
    if (!call) return
    const { bytes, release } = slabs.hold(piece)
    call.heard.data(bytes, () => {
      release()
      call.taken(piece.length)
    })
  }

  function frame({ id, kind, payload }: { id: number; kind: number; payload: Buffer }): boolean {
    const call = calls.get(id)
    if (kind === CREDIT && payload.length === 4) {
      call?.credit.add(payload.readUInt32BE(0))
      if (call?.credit.some) call.heard.room()
      return true
    }
    if (kind === LEAVE && payload.length === 4) {
      leave(payload.readUInt32BE(0))
      return true
    }
    const reply = kind === REPLY ? decodeReply(payload) : undefined
    if (!reply) return false
    calls.delete(id)
    vigil.came()
    call?.heard.reply(reply)
    return true
  }

  function open(headers: Iterable<readonly [string, string]>, message: Uint8Array, heard: Heard): HopCall {
    last = last === 0xffffffff ? 1 : last + 1
    const call = new OpenCall(last, heard, { send, calls })
    calls.add(last, call)
    if (calls.size > 1) vigil.cease()
    else vigil.expect()
    send({ id: last, kind: OPEN, payload: encodeHeaders(headers), body: message })
    return call
  }

  return { [Symbol.dispose]: () => void socket.destroy() }
}

interface Wire {
  readonly send: (frame: Frame) => void
  readonly calls: Table<OpenCall>
}

class OpenCall implements HopCall {
  readonly heard: Heard
  readonly credit = new Credit()
  readonly #allowance = new Allowance()
  readonly #id: number
  readonly #wire: Wire

  constructor(id: number, heard: Heard, wire: Wire) {
    this.heard = heard
    this.#id = id
    this.#wire = wire
  }

  get #isOpen(): boolean {
    return this.#wire.calls.get(this.#id) !== undefined
  }

  #send(kind: number, payload: Buffer, body?: Uint8Array): void {
    this.#wire.send({ id: this.#id, kind, payload, body })
  }

  /** So many bytes of the answer are taken. */
  taken(bytes: number): void {
    const more = this.#isOpen ? this.#allowance.take(bytes) : 0
    if (more > 0) this.#send(CREDIT, encodeNumber(more))
  }

  write(bytes: Uint8Array): boolean {
    if (!this.#isOpen) return true
    this.credit.spend(bytes.length)
    this.#send(DATA, NOTHING, bytes)
    return this.credit.some
  }

  end(): void {
    if (this.#isOpen) this.#send(END, NOTHING)
  }

  cancel(): void {
    if (this.#wire.calls.delete(this.#id)) this.#send(CANCEL, NOTHING)
  }
}

function once(act: () => void): () => void {
  let done = false
  return () => {
    if (!done) act()
    done = true
  }
}
