/**
 * The hop between processes of one host, for calls with one message each way: a stream of HTTP/2 for each of them costs
 * more than the call itself. A socket of its own beside the one that speaks gRPC:
 *
 *   frame    length of the rest (4 bytes), number of the call (4), kind (1), payload
 *   request  length (4), headers as `name NUL value NUL ...`, the path under `:path`; the message
 *   reply    gRPC status (1), length (4), details; the message
 *   cancel   nothing
 *
 * A peer that sends anything else loses its connection, and what waited for it.
 */
import { createServer, connect as dial, type Socket } from 'node:net'
import type { DescMethod } from '@bufbuild/protobuf'
import { Fault } from '@gantry/model/fault'
import { parseTimeout } from './call.ts'
import { createContext } from './context.ts'
import type { Log } from './log.ts'
import { decode, encode, MAX_MESSAGE_BYTES } from './message.ts'
import { inScope } from './scope.ts'
import { type ErasedHandler, pathOf } from './service.ts'
import { type CallStatus, toStatus } from './status.ts'
import type { MethodTelemetry, Telemetry } from './telemetry.ts'

const HEAD = 9 // bytes
const REQUEST = 1
const REPLY = 2
const CANCEL = 3
const MAX_FRAME = MAX_MESSAGE_BYTES + 2 * 1024 * 1024 // bytes: a message and its headers
const MAX_WAITING = 64 * 1024 * 1024 // bytes of replies that a peer may leave unread before it is cut off
const MAX_TIMER_MS = 2 ** 31 - 1

/** The socket of the hop that belongs to `address`. */
export function hopAddress(address: string): string {
  return `${address}.hop`
}

interface Frame {
  readonly id: number
  readonly kind: number
  readonly payload: Buffer
}

interface HopMethod {
  readonly method: DescMethod
  readonly handler: ErasedHandler
  readonly watch: MethodTelemetry
}

/** Serves the unary methods of a process. The socket file must not be there yet. */
export async function serveHop(
  address: string,
  methods: ReadonlyMap<string, HopMethod>,
  log: Log,
): Promise<AsyncDisposable> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    const running = new Map<number, AbortController>()
    const send = sender(socket)
    socket.on('error', () => undefined) // `close` follows
    socket.on('close', () => {
      sockets.delete(socket)
      for (const call of running.values()) call.abort(HANGUP)
    })
    receive(socket, ({ id, kind, payload }) => {
      if (kind === CANCEL) return running.get(id)?.abort(HANGUP)
      const request = decodeRequest(payload)
      if (!request) return void socket.destroy()
      const hangup = new AbortController()
      running.set(id, hangup)
      void answer(request, hangup).then(({ status, message }) => {
        running.delete(id)
        if (socket.writableLength > MAX_WAITING) socket.destroy()
        else if (!socket.destroyed) send({ id, kind: REPLY, payload: encodeReply(status), message })
      })
    })
  })

  async function answer(request: HopRequest, hangup: AbortController): Promise<Answer> {
    const path = request.headers.get(':path') ?? ''
    const found = methods.get(path)
    if (found === undefined) return { status: toStatus(unknown(path)), message: NOTHING }
    const { scope, end } = found.watch.begin((name) => request.headers.get(name) || undefined)
    const reply = await inScope(scope, () => handle(found, request, hangup))
    end(reply.status.code)
    return reply
  }

  async function handle(
    { method, handler }: HopMethod,
    { headers, message }: HopRequest,
    hangup: AbortController,
  ): Promise<Answer> {
    const timer = deadline(headers.get('grpc-timeout'), hangup)
    try {
      const header = (name: string): string | undefined => headers.get(name) || undefined
      const context = createContext({ header, signal: hangup.signal })
      const output = handler(decode(method.input, message) as never, context)
      return { status: OK, message: checked(encode(method.output, await output)) }
    } catch (error) {
      const reason = hangup.signal.aborted ? hangup.signal.reason : error
      if (!(reason instanceof Fault)) log.error({ err: error, method: pathOf(method) }, 'A call failed')
      return { status: toStatus(reason, hangup.signal), message: NOTHING }
    } finally {
      clearTimeout(timer)
    }
  }

  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(address, () => resolve())
  })
  return {
    async [Symbol.asyncDispose]() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}

/** The methods that may take the hop. */
export function hopMethods(
  bindings: readonly {
    service: { methods: readonly DescMethod[] }
    handlerOf: (method: DescMethod) => ErasedHandler
  }[],
  telemetry: Telemetry,
): Map<string, HopMethod> {
  const unary = bindings.flatMap(({ service, handlerOf }) =>
    service.methods
      .filter(({ methodKind }) => methodKind === 'unary')
      .map((method): [string, HopMethod] => [
        pathOf(method),
        { method, handler: handlerOf(method), watch: telemetry.of(method) },
      ]),
  )
  return new Map(unary)
}

/** A connection over which calls hop. */
export interface Hop {
  /**
   * @param done hears of the reply, once; `undefined` when the connection broke before it came
   * @returns cancels the call
   */
  call(
    headers: Iterable<readonly [string, string]>,
    message: Uint8Array,
    done: (reply: HopReply | undefined) => void,
  ): () => void
}

interface Answer {
  readonly status: CallStatus
  readonly message: Uint8Array
}

interface HopRequest {
  readonly headers: ReadonlyMap<string, string>
  readonly message: Buffer
}

export interface HopReply {
  readonly status: CallStatus
  readonly message: Buffer
}

/** Opens the hop to a process. @param lost called when it cannot be reached any more */
export function openHop(address: string, ready: (hop: Hop) => void, lost: () => void): Disposable {
  const waiting = new Map<number, (reply: HopReply | undefined) => void>()
  const socket = dial(address)
  const send = sender(socket)
  let last = 0
  socket.on('error', () => undefined) // `close` follows
  socket.on('connect', () =>
    ready({
      call(headers, message, done) {
        last = last === 0xffffffff ? 1 : last + 1
        const id = last
        waiting.set(id, done)
        send({ id, kind: REQUEST, payload: encodeHeaders(headers), message })
        return () => {
          if (waiting.delete(id)) send({ id, kind: CANCEL, payload: NOTHING, message: NOTHING })
        }
      },
    }),
  )
  socket.on('close', () => {
    lost()
    for (const done of waiting.values()) done(undefined)
    waiting.clear()
  })
  receive(socket, ({ id, payload }) => {
    const reply = decodeReply(payload)
    if (!reply) return void socket.destroy()
    const done = waiting.get(id)
    waiting.delete(id)
    done?.(reply)
  })
  return { [Symbol.dispose]: () => void socket.destroy() }
}

const OK: CallStatus = { code: 0, details: '' }
const NOTHING = Buffer.alloc(0)
const HANGUP = new Fault('cancelled', 'The caller hung up')

function unknown(path: string): Fault {
  return new Fault('unimplemented', `${path}: unknown service or method`)
}

function checked(message: Buffer): Buffer {
  if (message.length <= MAX_MESSAGE_BYTES) return message
  throw new Fault('resource-exhausted', `The answer has ${message.length} bytes, ${MAX_MESSAGE_BYTES} are allowed`)
}

function deadline(text: string | undefined, hangup: AbortController): NodeJS.Timeout | undefined {
  const ms = parseTimeout(text)
  if (ms === undefined) return undefined
  const passed = (): void => hangup.abort(new Fault('deadline-exceeded', 'The deadline has passed'))
  return setTimeout(passed, Math.min(ms, MAX_TIMER_MS))
}

/** Writes frames; those of one tick leave together. */
function sender(socket: Socket): (frame: Omit<Frame, 'payload'> & { payload: Buffer; message: Uint8Array }) => void {
  let corked = false
  return ({ id, kind, payload, message }) => {
    if (!corked) {
      corked = true
      socket.cork()
      process.nextTick(() => {
        corked = false
        socket.uncork()
      })
    }
    const head = Buffer.allocUnsafe(HEAD + payload.length)
    head.writeUInt32BE(HEAD - 4 + payload.length + message.length, 0)
    head.writeUInt32BE(id, 4)
    head[8] = kind
    head.set(payload, HEAD)
    socket.write(head)
    if (message.length > 0) socket.write(message)
  }
}

function receive(socket: Socket, take: (frame: Frame) => void): void {
  let parts: Buffer[] = []
  let held = 0
  let wanted = HEAD
  socket.on('data', (chunk: Buffer) => {
    parts.push(chunk)
    held += chunk.length
    if (held < wanted) return
    let rest = parts.length === 1 ? chunk : Buffer.concat(parts, held)
    for (wanted = HEAD; rest.length >= HEAD; wanted = HEAD) {
      wanted = 4 + rest.readUInt32BE(0)
      if (wanted > MAX_FRAME || wanted < HEAD) return void socket.destroy()
      if (rest.length < wanted) break
      take({ id: rest.readUInt32BE(4), kind: rest[8] ?? 0, payload: rest.subarray(HEAD, wanted) })
      rest = rest.subarray(wanted)
    }
    held = rest.length
    parts = held > 0 ? [rest] : []
  })
}

function encodeHeaders(headers: Iterable<readonly [string, string]>): Buffer {
  let text = ''
  for (const [name, value] of headers) text += `${name}\0${value}\0`
  const bytes = Buffer.from(`    ${text}`, 'latin1')
  bytes.writeUInt32BE(bytes.length - 4, 0)
  return bytes
}

/** Undefined when it is none. */
function decodeRequest(payload: Buffer): HopRequest | undefined {
  const end = payload.length < 4 ? Number.POSITIVE_INFINITY : 4 + payload.readUInt32BE(0)
  if (end > payload.length) return undefined
  const fields = payload.toString('latin1', 4, end).split('\0')
  const headers = new Map<string, string>()
  for (let at = 0; at + 1 < fields.length; at += 2) headers.set(fields[at] ?? '', fields[at + 1] ?? '')
  return { headers, message: payload.subarray(end) }
}

function encodeReply({ code, details }: CallStatus): Buffer {
  const text = Buffer.from(details)
  const bytes = Buffer.allocUnsafe(5 + text.length)
  bytes[0] = code
  bytes.writeUInt32BE(text.length, 1)
  bytes.set(text, 5)
  return bytes
}

/** Undefined when it is none. */
function decodeReply(payload: Buffer): HopReply | undefined {
  const end = payload.length < 5 ? Number.POSITIVE_INFINITY : 5 + payload.readUInt32BE(1)
  if (end > payload.length) return undefined
  return {
    status: { code: payload[0] ?? 2, details: payload.toString('utf8', 5, end) },
    message: payload.subarray(end),
  }
}
