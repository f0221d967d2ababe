import { connect, type Socket } from 'node:net'
import type { Answer, Question } from './transport.ts'

/** Pieces of a body are this large, in bytes. */
export const BULK_CHUNK = 1024 * 1024

const MAX_HEAD = 64 * 1024 // bytes of status and headers

/**
 * GET over plain HTTP for a large body, without a copy and without garbage. A piece of `BULK_CHUNK` bytes is good until
 * the next but one is asked for; smaller ones stay.
 *
 * @returns undefined for an answer that does not say its length: ask again in the ordinary way
 * @throws errors that `causeOf` reads
 */
export async function bulkGet(
  { url, headers }: Pick<Question, 'url' | 'headers'>,
  stallMs: number,
  signal: AbortSignal,
): Promise<Answer | undefined> {
  signal.throwIfAborted()
  const receiver = createReceiver(() => socket.setTimeout(stallMs))
  const socket = connect({
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port: Number(url.port || 80),
    onread: { buffer: receiver.space, callback: receiver.received },
  })
  const abort = (): void => receiver.fail(signal.reason)
  signal.addEventListener('abort', abort, { once: true })
  socket.once('close', () => signal.removeEventListener('abort', abort))
  watch(socket, receiver)
  socket.write(requestOf(url, headers))
  try {
    const head = parseHead(await receiver.head())
    if (head) return toAnswer(url, { head, socket, receiver })
    socket.destroy()
    return undefined
  } catch (error) {
    socket.destroy()
    throw error
  }
}

type Receiver = ReturnType<typeof createReceiver>

const BUFFERS = 3 // one is filled, one is looked at, one may still be written from
const PATIENCE_MS = 200 // how long a piece may wait to be full

interface Wanted {
  readonly sinceMs: number
  readonly bytes: number
  readonly wake: () => void
}

/** What a socket has brought and nobody has taken. The kernel fills a few buffers that are used again and again. */
function createReceiver(onWait: () => void) {
  const buffers: Buffer[] = []
  const full: Buffer[] = []
  let [turn, start, filled] = [0, 0, 0] // the buffer that is filled, and which of its bytes are new
  let reading: 'head' | 'body' = 'head'
  let failure: { readonly error: unknown } | undefined
  let wanted: Wanted | undefined

  function current(): Buffer {
    const buffer = buffers[turn] ?? Buffer.allocUnsafeSlow(BULK_CHUNK)
    buffers[turn] = buffer
    return buffer
  }
  function take(): Buffer {
    const piece = current().subarray(start, filled)
    start = filled
    return piece.length === BULK_CHUNK ? piece : Buffer.from(piece)
  }
  function wait(bytes: number): Promise<void> {
    onWait()
    return new Promise((wake) => {
      wanted = { sinceMs: performance.now(), bytes, wake }
    })
  }
  function wake(): void {
    wanted?.wake()
    wanted = undefined
  }

  return {
    isWaiting: () => wanted !== undefined,
    space: (): Uint8Array => current().subarray(filled, reading === 'head' ? filled + MAX_HEAD : BULK_CHUNK),
    /** Returns whether to go on receiving. */
    received(size: number): boolean {
      filled += size
      if (filled === BULK_CHUNK) {
        full.push(take())
        turn = (turn + 1) % BUFFERS
        start = 0
        filled = 0
      }
      if (!wanted) return full.length === 0
      if (full.length > 0 || filled - start >= wanted.bytes || performance.now() - wanted.sinceMs > PATIENCE_MS) wake()
      return true
    },
    fail(error: unknown): void {
      failure ??= { error }
      wake()
    },
    /** Everything up to the empty line. */
    async head(): Promise<string> {
      for (;;) {
        const end = current().subarray(0, filled).indexOf('\r\n\r\n')
        if (end >= 0) {
          start = end + 4
          reading = 'body'
          return current().toString('latin1', 0, end)
        }
        if (failure) throw failure.error
        if (filled >= MAX_HEAD) throw failed('UND_ERR_HEADERS_OVERFLOW')
        await wait(filled + 1)
      }
    },
    /** The next bytes, as many as make a piece or `left`; what came before a failure comes before it. */
    async next(left: number, resume: () => void): Promise<Uint8Array> {
      if (full.length === 0 && filled - start < left && !failure) {
        resume()
        await wait(left)
      }
      const piece = full.shift() ?? take()
      if (piece.length === 0 && failure) throw failure.error
      return piece.length > left ? piece.subarray(0, left) : piece
    },
  }
}

/** Silence ends an exchange, but for silence that we asked for. */
function watch(socket: Socket, receiver: Receiver): void {
  let phase = 'UND_ERR_CONNECT_TIMEOUT'
  socket.on('connect', () => {
    phase = 'UND_ERR_BODY_TIMEOUT'
  })
  socket.on('timeout', () => {
    if (receiver.isWaiting()) receiver.fail(failed(phase))
  })
  socket.on('error', (error) => receiver.fail(error))
  socket.on('end', () => receiver.fail(failed('UND_ERR_SOCKET')))
  socket.on('close', () => receiver.fail(failed('UND_ERR_SOCKET')))
}

function failed(code: string): Error {
  return Object.assign(new Error('A large answer broke off'), { code })
}

function requestOf(url: URL, headers: Readonly<Record<string, string>>): string {
  const lines = Object.entries({ ...headers, host: url.host, connection: 'close' })
  for (const [name, value] of lines)
    if (!/^[\w!#$%&'*+.^`|~-]+$/.test(name) || /[^\t\x20-\x7e\x80-\xff]/.test(value))
      throw failed('UND_ERR_INVALID_ARG')
  return [`GET ${url.pathname}${url.search} HTTP/1.1`, ...lines.map((line) => line.join(': ')), '', ''].join('\r\n')
}

interface Head {
  readonly status: number
  readonly headers: ReadonlyMap<string, readonly string[]>
  readonly length: number
}

/** Status and headers of an answer with a length; undefined for every other. */
function parseHead(text: string): Head | undefined {
  const [first = '', ...lines] = text.split('\r\n')
  const status = Number(/^HTTP\/1\.[01] ([2-5]\d\d)(?: |$)/.exec(first)?.[1])
  const headers = new Map<string, string[]>()
  for (const line of lines) {
    const [, name = '', value = ''] = /^([^\s:]+):[\t ]*(.*?)[\t ]*$/.exec(line) ?? []
    const key = name.toLowerCase()
    headers.set(key, [...(headers.get(key) ?? []), value])
  }
  const lengths = headers.get('content-length') ?? []
  const plain = !headers.has('') && !headers.has('transfer-encoding') && lengths.length === 1
  return plain && status && /^\d{1,15}$/.test(lengths[0] ?? '')
    ? { status, headers, length: Number(lengths[0]) }
    : undefined
}

function toAnswer(url: URL, { head, socket, receiver }: { head: Head; socket: Socket; receiver: Receiver }): Answer {
  const valuesOf = (name: string): readonly string[] => head.headers.get(name.toLowerCase()) ?? []
  async function* body(): AsyncGenerator<Uint8Array> {
    for (let left = head.length; left > 0; ) {
      const piece = await receiver.next(left, () => socket.resume())
      left -= piece.length
      if (piece.length > 0) yield piece
    }
    socket.destroy()
  }
  return {
    url,
    status: head.status,
    header: (name) => valuesOf(name)[0] ?? '',
    headers: valuesOf,
    body: body(),
    [Symbol.asyncDispose]: async () => void socket.destroy(),
  }
}
