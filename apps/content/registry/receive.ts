import { setMaxListeners } from 'node:events'
import type { SavedPart } from './answer.ts'
import type { OpenSink } from './ask.ts'
import { createSaver, type Saver } from './saver.ts'
import { createTransport, type Network, type Question } from './transport.ts'

const MAX_TEXT = 16 * 1024 // bytes of an answer that is no body of a blob

/** What a receiving thread is asked; `ask` names the exchange. */
export type ReceiveOrder =
  | { readonly ask: number; readonly question: RemoteQuestion }
  | { readonly ask: number; readonly save: SaveOrder }
  | { readonly ask: number; readonly drop: true }

interface SaveOrder extends SavedPart {
  readonly id: number
  readonly fd: number
}

/** A question that can be sent to a thread: it has no body. */
export interface RemoteQuestion extends Pick<Question, 'method' | 'headers' | 'dial'> {
  readonly url: string
}

/** What it says: first the head of the answer, then how many bytes are dealt with, at last that it is over. */
export type ReceiveNews = { readonly ask: number } & (
  | { readonly head: RemoteHead }
  | { readonly saved: number }
  | { readonly ended: RemoteError | undefined }
)

export interface RemoteHead {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  /** What is read of an answer that brings no blob. */
  readonly text: Uint8Array
}

/** An error loses its code on the way to another thread. */
export interface RemoteError {
  readonly name: string
  readonly message: string
  readonly code: string | undefined
}

interface Exchange {
  readonly stop: AbortController
  readonly ended: (error: unknown) => void
  saver?: Saver
}

interface ReceivingParts {
  readonly network: Network
  readonly post: (news: ReceiveNews) => void
  /** Writes to the file and hashes what is written. */
  readonly write: (file: { id: number; fd: number }, data: Uint8Array, at: number) => void
}

/** The side of a thread that asks registries and writes what they send. Its orders are followed one after the other. */
export function createReceiving({ network, post, write }: ReceivingParts): (order: ReceiveOrder) => void {
  const transport = createTransport(network)
  const exchanges = new Map<number, Exchange>()

  async function receive(ask: number, { url, ...question }: RemoteQuestion): Promise<void> {
    const stop = new AbortController()
    setMaxListeners(0, stop.signal)
    const ended = (error: unknown): void => {
      if (exchanges.delete(ask)) post({ ask, ended: toRemote(error) })
    }
    const exchange: Exchange = { stop, ended }
    exchanges.set(ask, exchange)
    const openSink: OpenSink = ({ status }, resume) => {
      if (status !== 200 && status !== 206) return undefined
      const told = (saved: number): void => post({ ask, saved })
      exchange.saver = createSaver({ resume, told, ended })
      return exchange.saver
    }
    try {
      const answer = await transport.exchange({ ...question, url: new URL(url) }, stop.signal, openSink)
      const text = exchange.saver ? new Uint8Array() : await startOf(answer.body)
      if (exchanges.has(ask)) post({ ask, head: { status: answer.status, headers: answer.all, text } })
      if (exchange.saver) return
      exchanges.delete(ask)
      await answer[Symbol.asyncDispose]()
    } catch (error) {
      ended(error)
    }
  }

  /** What came with the head is written now, and the disk may be full: that ends the exchange, not the thread. */
  function begin({ saver, stop, ended }: Exchange, { id, fd, ...destination }: SaveOrder): void {
    try {
      saver?.begin({ ...destination, write: (data, at) => write({ id, fd }, data, at) })
    } catch (error) {
      stop.abort(error)
      ended(error)
    }
  }

  return (order) => {
    if ('question' in order) void receive(order.ask, order.question)
    else if ('save' in order) {
      const exchange = exchanges.get(order.ask)
      if (exchange) begin(exchange, order.save)
    } else {
      const dropped = exchanges.get(order.ask)
      exchanges.delete(order.ask)
      dropped?.stop.abort(new Error('Nobody waits for it'))
    }
  }
}

/** Refusals are short; what breaks off counts as far as it came. */
async function startOf(body: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  let size = 0
  try {
    for await (const chunk of body) {
      chunks.push(Buffer.from(chunk))
      size += chunk.length
      if (size >= MAX_TEXT) break
    }
  } catch {
    // the status alone says enough
  }
  return new Uint8Array(Buffer.concat(chunks)) // of its own: what is posted is copied whole
}

function toRemote(error: unknown): RemoteError | undefined {
  if (error === undefined) return undefined
  if (!(error instanceof Error)) return { name: 'Error', message: String(error), code: undefined }
  const code = 'code' in error && error.code !== undefined ? String(error.code) : undefined
  return { name: error.name, message: error.message, code }
}
