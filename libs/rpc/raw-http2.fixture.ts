/** HTTP/2 by hand, for what a client with manners does not send. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'

export const DATA = 0
export const HEADERS = 1
export const RST_STREAM = 3
export const SETTINGS = 4
export const PING = 6
export const GOAWAY = 7
export const CONTINUATION = 9
export const ACK = 1
export const END_STREAM = 1
export const END_HEADERS = 4

export interface Frame {
  readonly type: number
  readonly flags: number
  readonly stream: number
  readonly payload: Buffer
}

/** The bytes of a frame. */
export function frame({ type, flags = 0, stream = 0, payload = Buffer.alloc(0) }: Partial<Frame>): Buffer {
  const head = Buffer.alloc(9)
  head.writeUIntBE(payload.length, 0, 3)
  head[3] = type ?? DATA
  head[4] = flags
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, payload])
}

/** A block of headers without compression: each a literal that nobody remembers. */
export function headerBlock(headers: Readonly<Record<string, string>>): Buffer {
  const text = (value: string): Buffer => Buffer.concat([length(Buffer.byteLength(value)), Buffer.from(value)])
  return Buffer.concat(Object.entries(headers).flatMap(([name, value]) => [Buffer.of(0), text(name), text(value)]))
}

/** An integer of seven bits and more, as HPACK has it. */
function length(value: number): Buffer {
  if (value < 0x7f) return Buffer.of(value)
  const bytes = [0x7f]
  let rest = value - 0x7f
  for (; rest >= 0x80; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80)
  return Buffer.of(...bytes, rest)
}

export interface RawConnection extends Disposable {
  /** Resolves when the kernel has taken it, or the connection is gone. */
  send(...frames: readonly Buffer[]): Promise<void>
  /** What came so far. */
  readonly frames: readonly Frame[]
  readonly closed: Promise<void>
}

/** Connects and says hello. @param socket a connection of another kind, such as one with TLS */
export async function openRaw(path: string, socket: Socket = connect(path)): Promise<RawConnection> {
  const frames: Frame[] = []
  let rest = Buffer.alloc(0)
  socket.on('error', () => undefined)
  socket.on('data', (chunk: Buffer) => {
    rest = Buffer.concat([rest, chunk])
    for (let size = 0; rest.length >= 9; rest = rest.subarray(9 + size)) {
      size = rest.readUIntBE(0, 3)
      if (rest.length < 9 + size) break
      const [type = 0, flags = 0] = rest.subarray(3, 5)
      frames.push({ type, flags, stream: rest.readUInt32BE(5), payload: Buffer.from(rest.subarray(9, 9 + size)) })
    }
  })
  const closed = new Promise<void>((resolve) => socket.on('close', () => resolve()))
  const write = (bytes: Buffer): Promise<void> =>
    new Promise((resolve) => {
      if (socket.destroyed)
        setImmediate(resolve) // so that its end can be heard
      else socket.write(bytes, () => resolve())
    })
  if (socket.connecting) await once(socket, 'connect')
  await write(Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame({ type: SETTINGS })]))
  return {
    frames,
    closed,
    send: (...sent) => write(Buffer.concat(sent)),
    [Symbol.dispose]: () => void socket.destroy(),
  }
}
