import { once } from 'node:events'
import { chmod } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { type Request, RequestSchema, ResponseSchema } from '@gantry/api/gantry/ttrpc/v1/ttrpc_pb'
import { Fault } from '@gantry/model/fault'
import { createContext } from './context.ts'
import type { Log } from './log.ts'
import { decode, encode } from './message.ts'
import { inScope } from './scope.ts'
import { claimSocket } from './server.ts'
import type { Binding } from './service.ts'
import { fromStatus, toStatus } from './status.ts'
import { type Telemetry, UNWATCHED } from './telemetry.ts'
import { encodeFrame, type Frame, REQUEST, RESPONSE, readFrames } from './ttrpc-frame.ts'

const MAX_CALLS = 16 // of one connection at a time

export interface TtrpcParts {
  /** Absolute path of the unix socket; it gets the mode 0600. */
  readonly address: string
  readonly bindings: readonly Binding[]
  /** Hears of every call. */
  readonly telemetry?: Telemetry
  readonly log: Log
}

/**
 * Serves the unary methods of some services over ttrpc until disposed. Of one connection a few calls are answered at a time,
 * and it is not read meanwhile: a peer that floods us waits for itself.
 * @throws {Fault} as `listen` does
 */
export async function listenTtrpc(parts: TtrpcParts): Promise<AsyncDisposable> {
  await claimSocket(parts.address)
  const stop = new AbortController()
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    void serve(parts, socket, stop.signal)
  })
  server.listen(parts.address)
  await once(server, 'listening')
  await chmod(parts.address, 0o600)
  return {
    async [Symbol.asyncDispose]() {
      stop.abort(new Fault('unavailable', 'The service is stopping'))
      for (const socket of sockets) socket.destroy()
      await closed(server)
    },
  }
}

async function serve(parts: TtrpcParts, socket: Socket, signal: AbortSignal): Promise<void> {
  let last = 0
  let calls = 0
  let room = (): void => undefined
  const reply = async (frame: Frame, isNew: boolean): Promise<void> => {
    const payload = await answer(parts, frame, isNew, signal)
    if (!socket.destroyed) socket.write(encodeFrame(frame.streamId, RESPONSE, payload))
    calls--
    room()
  }
  try {
    for await (const frame of readFrames(socket)) {
      const isNew = frame.streamId % 2 === 1 && frame.streamId > last
      if (isNew) last = frame.streamId
      calls++
      void reply(frame, isNew)
      if (calls >= MAX_CALLS)
        await new Promise<void>((resolve) => {
          room = resolve
        })
      if (socket.writableNeedDrain) await once(socket, 'drain', { signal })
    }
  } catch {
    // the peer went away
  }
  socket.destroy()
}

/** The response to one frame, whatever it holds. */
async function answer(parts: TtrpcParts, frame: Frame, isNew: boolean, signal: AbortSignal): Promise<Uint8Array> {
  try {
    if (!isNew) throw new Fault('invalid-argument', `stream id ${frame.streamId} is even, or not larger than the last`)
    if (frame.payload === undefined) throw new Fault('resource-exhausted', 'the message is too large')
    if (frame.type !== REQUEST) throw new Fault('unimplemented', 'streams are not supported')
    const payload = await handle(parts, parseRequest(frame.payload), signal)
    return toBinary(ResponseSchema, create(ResponseSchema, { payload }))
  } catch (error) {
    const { code, details } = toStatus(error, signal)
    return toBinary(ResponseSchema, create(ResponseSchema, { status: { code, message: details } }))
  }
}

function parseRequest(payload: Uint8Array): Request {
  try {
    return fromBinary(RequestSchema, payload)
  } catch (cause) {
    throw new Fault('invalid-argument', 'the request cannot be read', { cause })
  }
}

async function handle(parts: TtrpcParts, request: Request, signal: AbortSignal): Promise<Uint8Array> {
  const { bindings, telemetry = UNWATCHED, log } = parts
  const binding = bindings.find(({ service }) => service.typeName === request.service)
  const method = binding?.service.methods.find(({ name }) => name === request.method)
  if (binding === undefined || method?.methodKind !== 'unary')
    throw new Fault('unimplemented', `/${request.service}/${request.method}: unknown service or method`)
  const header = (name: string): string | undefined =>
    request.metadata.find(({ key }) => key === name)?.value || undefined
  const { scope, end } = telemetry.of(method).begin(header)
  return await inScope(scope, async () => {
    try {
      const input = decode(method.input, request.payload)
      const output = await binding.handlerOf(method)(input as never, createContext({ header, signal }))
      const reply = encode(method.output, output)
      end(0)
      return reply
    } catch (error) {
      if (!(error instanceof Fault) && !signal.aborted)
        log.error({ err: error, method: method.name }, 'A call over ttrpc failed')
      const { code, details } = toStatus(error, signal)
      end(code)
      throw fromStatus(code, details, error)
    }
  })
}

function closed(server: Server): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()))
}
