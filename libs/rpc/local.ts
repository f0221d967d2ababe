/**
 * Calls with one message each way to a server on this host, over node:http2 alone: to read grpc-js takes a program longer than
 * all that a command asks of a node.
 */
import { type ClientHttp2Session, connect, type IncomingHttpHeaders } from 'node:http2'
import { connect as dialSocket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { Fault } from '@gantry/model/fault'
import { createUnframer, framed } from './frame.ts'
import { MAX_MESSAGE_BYTES } from './message.ts'
import { fromStatus } from './status.ts'

const RETRY_MS = 50
const WINDOW = 1024 * 1024 // bytes of an answer that are on their way at once
const CANCEL = 8 // what HTTP/2 calls the end of a call that is not wanted any more
const ENHANCE_YOUR_CALM = 11 // and what it says to one who asks for too much

/** A connection to a unix socket. It is opened when first needed, and again whenever it broke. */
export interface Local extends Disposable {
  /**
   * Makes one call; the path is the header `:path`.
   *
   * @param waitMs how long it may wait for the server
   * @throws {Fault} what the peer threw; `unavailable` when it cannot be reached, or went away before it had answered; `cancelled`
   */
  call(headers: Record<string, string>, message: Uint8Array, signal: AbortSignal, waitMs: number): Promise<Buffer>
}

export function createLocal(address: string): Local {
  let session: ClientHttp2Session | undefined
  let dialling: Promise<ClientHttp2Session> | undefined
  let calls = 0

  async function opened(signal: AbortSignal, waitMs: number): Promise<ClientHttp2Session> {
    for (const end = performance.now() + waitMs; !signal.aborted; await sleep(RETRY_MS)) {
      try {
        if (session && !session.closed && !session.destroyed) return session
        dialling ??= dial(address).finally(() => {
          dialling = undefined
        })
        session = await dialling
        return session
      } catch (cause) {
        if (performance.now() + RETRY_MS < end) continue
        throw new Fault('unavailable', `Cannot reach "${address}": is the service running?`, { cause })
      }
    }
    throw new Fault('cancelled', 'The call was cancelled before it was sent', { cause: signal.reason })
  }

  return {
    async call(headers, message, signal, waitMs) {
      const over = await opened(signal, waitMs)
      calls++
      over.ref()
      try {
        return await ask(over, headers, message, signal)
      } finally {
        if (--calls === 0) over.unref() // a program ends although it has not closed us
      }
    },
    [Symbol.dispose]: () => session?.destroy(),
  }
}

function dial(path: string): Promise<ClientHttp2Session> {
  const session = connect('http://localhost', {
    createConnection: () => dialSocket(path),
    maxSessionMemory: (4 * MAX_MESSAGE_BYTES) / 1_000_000, // MB
    settings: { enablePush: false, initialWindowSize: WINDOW },
  })
  return new Promise((resolve, reject) => {
    session.on('error', reject) // after it is open: its calls tell
    session.once('connect', () => {
      session.unref()
      resolve(session)
    })
  })
}

function ask(
  session: ClientHttp2Session,
  headers: Record<string, string>,
  message: Uint8Array,
  signal: AbortSignal,
): Promise<Buffer> {
  const fixed = { ':method': 'POST', 'content-type': 'application/grpc', te: 'trailers' }
  const stream = session.request({ ...fixed, ...headers })
  const unframer = createUnframer()
  let answer: Buffer | undefined
  let failure: unknown
  let told: IncomingHttpHeaders = {}
  const cancel = (): void => {
    failure ??= new Fault('cancelled', 'The call was cancelled', { cause: signal.reason })
    stream.close(CANCEL)
  }
  signal.addEventListener('abort', cancel, { once: true })
  if (signal.aborted) cancel()
  stream.on('response', (head) => {
    told = head
  })
  stream.on('trailers', (trailers) => {
    told = { ...told, ...trailers }
  })
  stream.on('data', (chunk: Buffer) => {
    try {
      answer = unframer.push(chunk)[0] ?? answer
    } catch (error) {
      failure ??= error
      stream.close(CANCEL)
    }
  })
  stream.on('error', () => undefined) // its end tells
  for (const piece of framed(message)) stream.write(piece)
  stream.end()
  return new Promise((resolve, reject) => {
    stream.once('close', () => {
      signal.removeEventListener('abort', cancel)
      failure ??= failureOf(told, stream.rstCode)
      if (failure !== undefined) reject(failure)
      else if (answer) resolve(answer)
      else reject(new Fault('internal', 'The call was answered without a message'))
    })
  })
}

function failureOf(told: IncomingHttpHeaders, reset: number | undefined): Fault | undefined {
  const { ':status': http, 'grpc-status': status, 'grpc-message': text } = told
  if (status === '0') return undefined
  if (status !== undefined) return fromStatus(Number(status), unescaped(String(text ?? '')))
  if (reset === ENHANCE_YOUR_CALM) return new Fault('resource-exhausted', 'The service has too much to do: try later')
  if (http !== undefined && Number(http) !== 200) return new Fault('unknown', `The peer speaks no gRPC: status ${http}`)
  return new Fault('unavailable', 'The service went away before it had answered: try again')
}

/** Bytes that a header cannot hold are written %XX. */
function unescaped(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
