/** gRPC by the byte: what no library would send. */
import { connect as connectHttp2, constants, type OutgoingHttpHeaders } from 'node:http2'
import { connect as dial } from 'node:net'

export interface RawCall {
  readonly path: string
  readonly headers: OutgoingHttpHeaders
  /** The bytes of the request, frames and all. */
  readonly body: Uint8Array
  /** Leave our side open: the call ends when the other side ends it, or when we hang up. */
  readonly halfOpen: boolean
  /** After so many ms we hang up. */
  readonly patienceMs: number
}

export interface RawReply {
  /** The gRPC status; undefined when none came: we hung up, or the stream was reset. */
  readonly code: number | undefined
  readonly details: string
  readonly bytes: number
  readonly hungUp: boolean
  readonly httpStatus: number | undefined
}

export interface Wire extends Disposable {
  call(call: RawCall): Promise<RawReply>
}

/** One connection to the socket, made again when it broke. */
export function openWire(address: string): Wire {
  const open = () => {
    const fresh = connectHttp2('http://localhost', { createConnection: () => dial(address), maxSessionMemory: 1000 })
    fresh.on('error', () => undefined)
    return fresh
  }
  let session = open()

  return {
    call({ path, headers, body, halfOpen, patienceMs }) {
      if (session.closed || session.destroyed) session = open()
      const stream = session.request({ ...HEAD, ':path': path, ...headers })
      return new Promise((resolve) => {
        const seen = {
          code: undefined as number | undefined,
          details: '',
          bytes: 0,
          httpStatus: undefined as number | undefined,
        }
        let hungUp = false
        const note = (from: Record<string, unknown>): void => {
          if (from['grpc-status'] === undefined) return
          seen.code = Number(from['grpc-status'])
          seen.details = decodeURIComponent(String(from['grpc-message'] ?? ''))
        }
        const timer = setTimeout(() => {
          hungUp = true
          stream.close(constants.NGHTTP2_CANCEL)
        }, patienceMs)
        stream.on('response', (answer) => {
          seen.httpStatus = answer[':status']
          note(answer)
        })
        stream.on('trailers', note)
        stream.on('data', (chunk: Buffer) => {
          seen.bytes += chunk.length
        })
        stream.on('error', () => undefined)
        stream.on('close', () => {
          clearTimeout(timer)
          resolve({ ...seen, hungUp })
        })
        if (halfOpen) stream.write(body)
        else stream.end(body)
      })
    },
    [Symbol.dispose]: () => session.destroy(),
  }
}

/** Writes bytes that need not be HTTP to the socket, and leaves when the other side does, or soon after. */
export function poke(address: string, bytes: Uint8Array): Promise<void> {
  return new Promise((resolve) => {
    const socket = dial(address, () => socket.write(bytes))
    socket.setTimeout(POKE_MS, () => socket.destroy())
    socket.on('error', () => undefined)
    socket.on('close', () => resolve())
    socket.resume()
  })
}

const POKE_MS = 200
const HEAD = { ':method': 'POST', 'content-type': 'application/grpc', te: 'trailers' } as const

/** A message as gRPC frames it: a flag, the length, the bytes. */
export function frame(message: Uint8Array, flag = 0, length = message.length): Buffer {
  const head = Buffer.alloc(5)
  head[0] = flag
  head.writeUInt32BE(length >>> 0, 1)
  return Buffer.concat([head, message])
}
