/** The side of the hop that calls: see `hop-wire.ts`. */
import { connect as dial } from 'node:net'
import {
  CANCEL,
  CREDIT,
  createAllowance,
  createCredit,
  createReader,
  DATA,
  decodeReply,
  END,
  encodeHeaders,
  encodeNumber,
  LEAVE,
  NOTHING,
  OPEN,
  REPLY,
  type Reply,
  sender,
} from './hop-wire.ts'
import { createSlabs } from './slabs.ts'

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

interface Open {
  readonly heard: Heard
  readonly credit: ReturnType<typeof createCredit>
  readonly allowance: ReturnType<typeof createAllowance>
}

/** Opens the hop to a process. @param lost called once, when it takes no more calls */
export function openHop(address: string, ready: (hop: Hop) => void, lost: () => void): Disposable {
  const calls = new Map<number, Open>()
  const slabs = createSlabs()
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
    for (const { heard } of calls.values()) heard.lost()
    calls.clear()
  })

  /** @param number of the last call that is answered */
  function leave(number: number): void {
    lose()
    for (const [id, { heard }] of calls) {
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
      if (calls.has(id)) call.allowance.taken(piece.length)
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
    call?.heard.reply(reply)
    return true
  }

  function open(headers: Iterable<readonly [string, string]>, message: Uint8Array, heard: Heard): HopCall {
    last = last === 0xffffffff ? 1 : last + 1
    const id = last
    const credit = createCredit()
    const allowance = createAllowance((bytes) => send({ id, kind: CREDIT, payload: encodeNumber(bytes) }))
    calls.set(id, { heard, credit, allowance })
    send({ id, kind: OPEN, payload: encodeHeaders(headers), body: message })
    return {
      write(bytes) {
        if (!calls.has(id)) return true
        credit.spend(bytes.length)
        send({ id, kind: DATA, payload: NOTHING, body: bytes })
        return credit.some
      },
      end() {
        if (calls.has(id)) send({ id, kind: END, payload: NOTHING })
      },
      cancel() {
        if (calls.delete(id)) send({ id, kind: CANCEL, payload: NOTHING })
      },
    }
  }

  return { [Symbol.dispose]: () => void socket.destroy() }
}

function once(act: () => void): () => void {
  let done = false
  return () => {
    if (!done) act()
    done = true
  }
}
