/** The side of the hop that answers: see `hop-wire.ts`. */
import { createServer, type Socket } from 'node:net'
import { Fault } from '@gantry/model/fault'
import type { Call } from './call.ts'
import { createUnframer, framed, headed, SMALL } from './frame.ts'
import {
  CANCEL,
  CREDIT,
  createAllowance,
  createCredit,
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
import { Life } from './life.ts'
import { countStream } from './room.ts'
import type { CallStatus } from './status.ts'

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
  const calls = new Map<number, HopCall>()
  const send = sender(socket)
  const wire = { send, socket, over: (id: number) => void calls.delete(id) }
  let last = 0
  let leaving = false

  function open(id: number, payload: Buffer): boolean {
    const opening = decodeOpening(payload)
    if (!opening || calls.has(id)) return false
    if (leaving) return true
    last = id
    const call = createHopCall(id, opening, wire)
    calls.set(id, call)
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
    for (const call of calls.values()) call.hangUp()
  })
  return {
    leave() {
      leaving = true
      send({ id: 0, kind: LEAVE, payload: encodeNumber(last) })
      for (const call of calls.values()) call.abort(STOPPING)
      socket.end()
    },
    destroy: () => void socket.destroy(),
  }
}

const STOPPING = new Fault('unavailable', 'The service is stopping')

interface Wire {
  readonly send: (frame: Frame) => void
  readonly socket: Socket
  over(id: number): void
}

interface HopCall extends Call {
  abort(reason: Fault): void
  take(piece: Buffer): void
  done(): void
  credit(bytes: number): void
  hangUp(): void
}

/** What comes for a call that is over is nobody's. @returns false for a frame that is none */
function hear(call: HopCall | undefined, kind: number, payload: Buffer): boolean {
  if (kind === CANCEL) call?.hangUp()
  else if (kind === END) call?.done()
  else if (kind === CREDIT && payload.length === 4) call?.credit(payload.readUInt32BE(0))
  else return false
  return true
}

function createHopCall(id: number, { headers, message }: Opening, { send, socket, over }: Wire): HopCall {
  const life = new Life(headers.get('grpc-timeout'), (status) => end(status))
  const credit = createCredit()
  const inbox = createInbox((bytes) => send({ id, kind: CREDIT, payload: encodeNumber(bytes) }))
  let room: (() => void) | undefined // somebody waits for it

  function end(status: CallStatus, last?: Uint8Array): void {
    if (!life.close(status.code)) return
    leave()
    if (socket.writableLength > MAX_WAITING) socket.destroy()
    else if (!socket.destroyed) send({ id, kind: REPLY, payload: encodeReply(status), body: last })
  }

  function leave(): void {
    over(id)
    inbox.close(life.reason)
    room?.()
  }

  const isFull = (): boolean => !life.isOver && (!credit.some || socket.writableLength > MAX_QUEUED)

  async function sendMessage(bytes: Uint8Array, gone?: () => void): Promise<void> {
    if (life.isOver || socket.destroyed) return
    credit.spend(bytes.length)
    send({ id, kind: DATA, payload: headed(bytes), body: bytes, gone })
    while (isFull()) {
      await new Promise<void>((resolve) => {
        room = resolve
        if (credit.some) socket.once('drain', resolve)
      })
      room = undefined
    }
  }

  return {
    header: (name) => headers.get(name) || undefined,
    get signal() {
      return life.signal
    },
    get isOver() {
      return life.isOver
    },
    message: async () => message,
    messages: inbox.messages,
    send: sendMessage,
    reply(bytes) {
      if (bytes.length <= SMALL) end(OK, framed(bytes)[0])
      else void sendMessage(bytes).then(() => end(OK))
    },
    end,
    onOver(heard) {
      life.onOver = heard
    },
    abort: (reason) => life.abort(reason),
    take: inbox.take,
    done: () => inbox.close(undefined),
    credit(bytes) {
      credit.add(bytes)
      room?.()
    },
    hangUp() {
      life.hangUp()
      leave()
    },
  }
}

const OK: CallStatus = { code: 0, details: '' }

/** Messages that come, for one who takes them one after the other. */
function createInbox(grant: (bytes: number) => void) {
  const pieces: Buffer[] = []
  const allowance = createAllowance(grant)
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
        allowance.taken(piece.length)
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
